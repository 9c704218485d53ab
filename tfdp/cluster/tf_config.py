"""The variable `TF_CONFIG`: its text, and what it says."""

import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from tfdp.machine import ports

EXAMPLE = (
    '{"cluster": {"worker": ["host0:12345", "host1:12345"]}, '
    '"task": {"type": "worker", "index": 0}}'
)
BYTE_ORDER_MARK = "\ufeff"
_MEMBERS = ("cluster", "task")


class Place(NamedTuple):
    """The processes of a job and the place of this one, not checked yet.

    Attributes:
        jobs: Addresses by job name.
        task_type: Job of this process.
        task_index: Place of this process in its job.
        extra: What else `TF_CONFIG` has.
        visible_gpus: Which of the GPUs it sees this process should use;
            `None` for all.
    """

    jobs: Mapping[str, tuple[str, ...]]
    task_type: str
    task_index: int
    extra: Mapping[str, Any]
    visible_gpus: tuple[int, ...] | None = None


def tf_config_text() -> str:
    """Returns the text of `TF_CONFIG`, without blanks around it; maybe empty.

    Example:

    >>> tf_config_text()
    ''
    """
    return os.environ.get("TF_CONFIG", "").strip()


def names_nobody(text: str) -> bool:
    """Whether this is a job of one process: an object of neither member.

    Args:
        text: Text of a `TF_CONFIG`.

    Raises:
        ValueError: If it is not JSON.

    Example:

    >>> names_nobody("{}")
    True
    """
    config = _json(text)
    return isinstance(config, dict) and not config.keys() & set(_MEMBERS)


def parsed(text: str) -> Place:
    """Reads the JSON text of a `TF_CONFIG`.

    Args:
        text: JSON object with `cluster` and `task`. Other keys are kept in
            `extra`.

    Returns:
        What it says.

    Raises:
        ValueError: If the text is not such an object.

    Example:

    >>> parsed(EXAMPLE).jobs
    {'worker': ('host0:12345', 'host1:12345')}
    """
    config = _json(text)
    jobs = _member(config, "cluster", dict, text)
    task = _member(config, "task", dict, text)
    for name, addresses in jobs.items():
        if not isinstance(addresses, list):
            raise ValueError(
                "A job of TF_CONFIG must be a list of addresses. "
                f"Received: {name}={addresses!r}. "
                f"Example: TF_CONFIG='{EXAMPLE}'"
            )
    index = task.get("index")
    if isinstance(index, str) and ports.is_whole(index):
        index = int(index)
    return Place(
        {name: tuple(addresses) for name, addresses in jobs.items()},
        task.get("type", ""),
        index,
        {k: v for k, v in config.items() if k not in _MEMBERS},
    )


def _json(text: str) -> Any:
    if text.startswith(BYTE_ORDER_MARK):
        raise ValueError(
            "TF_CONFIG must be JSON. Received: a byte-order mark (U+FEFF) "
            f"before {_shortened(text[1:])}. Some editors write it at the head "
            "of a file; leave it out."
        )
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        # Of a number with thousands of digits, or too many brackets.
        why = "too deep" if isinstance(error, RecursionError) else error
        raise ValueError(
            f"TF_CONFIG must be JSON. Received: {_shortened(text)} "
            f"({why}). Example: TF_CONFIG='{EXAMPLE}'"
        ) from None


def _member(config: Any, name: str, kind: type, text: str) -> Any:
    value = config.get(name) if isinstance(config, dict) else None
    if not isinstance(value, kind):
        raise ValueError(
            f"TF_CONFIG must have an object `{name}`. Received: "
            f"{_shortened(text)}. Example: TF_CONFIG='{EXAMPLE}'"
        )
    return value


def _shortened(text: str) -> str:
    return text if len(text) <= 200 else text[:200] + "…"
