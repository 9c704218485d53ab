"""How workers train, in short words that are compared by name."""

import hashlib
from collections.abc import Collection, Mapping
from typing import Any

from tfdp.agreement import same_program

_MOST_ITEMS = 200
_LONGEST = 400
_SHOWN = 300


def in_words(items: Mapping[str, Any]) -> dict[str, str]:
    """Returns what differs where items do, in words of bounded length.

    Args:
        items: Anything JSON can hold, by name.

    Example:

    >>> in_words({"epochs": 3, "the loss": "mse"})
    {'epochs': '3', 'the loss': 'mse'}
    """
    texts = {
        name: same_program.plain_text(item)
        if isinstance(item, dict | list | tuple)
        else str(item)
        for name, item in items.items()
    }
    return {
        name: text if len(text) <= _LONGEST else _shortened(text)
        for name, text in texts.items()
    }


def is_short(program: Any) -> bool:
    """Whether something that was sent is what `in_words` returns."""
    return (
        type(program) is dict
        and len(program) <= _MOST_ITEMS
        and all(
            type(text) is str and len(text) <= _LONGEST
            for item in program.items()
            for text in item
        )
    )


def check_same(
    ours: Mapping[str, str],
    theirs: Mapping[str, str],
    *,
    worker: int,
    overruled: Collection[str] = (),
) -> None:
    """Checks that a worker trains as the chief does.

    Args:
        ours: How the chief does.
        theirs: How the worker does.
        worker: Its index.
        overruled: Names of which the chief's count. Defaults to none.

    Raises:
        ValueError: If it does otherwise.

    Example:

    >>> check_same({"epochs": "3"}, {"epochs": "3"}, worker=1)
    """
    for name in {**ours, **theirs}:
        one, other = (each.get(name, "not given") for each in (ours, theirs))
        if one != other and name not in overruled:
            raise ValueError(
                "Every worker must train in the same way as the chief. "
                f"Received: {name} is {one} on the chief and {other} on worker "
                f"{worker}. Start the same program with the same arguments on "
                "all workers."
            )


def _shortened(text: str) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return f"{text[:_SHOWN]}... ({len(text)} characters, SHA-256 {digest})"
