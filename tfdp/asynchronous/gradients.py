"""Gradients as they travel: whole, as rows, or not at all."""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from tfdp.asynchronous.description import Described, check_arrays

_ABSENT, _WHOLE, _ROWS = "-", "w", "r"


class Rows(NamedTuple):
    """Some rows of a gradient, as of an embedding; others have none.

    Attributes:
        indices: Which rows, each once; int64 of shape `[n]`.
        values: They; of shape `[n, ...]`.
    """

    indices: np.ndarray
    values: np.ndarray


Gradient: TypeAlias = np.ndarray | Rows | None


def flattened(gradients: Sequence[Gradient]) -> tuple[str, list[np.ndarray]]:
    """Returns the arrays that gradients consist of, and how.

    Args:
        gradients: Of each variable; `None` where the loss does not depend on
            it.

    Example:

    >>> flattened([np.float32(1), None])[0]
    'w-'
    """
    kinds = ""
    arrays: list[np.ndarray] = []
    for gradient in gradients:
        if gradient is None:
            kinds += _ABSENT
        elif isinstance(gradient, Rows):
            kinds += _ROWS
            arrays += gradient
        else:
            kinds += _WHOLE
            arrays.append(gradient)
    return kinds, arrays


def restored(kinds: Any, arrays: Sequence[np.ndarray]) -> list[Gradient]:
    """Returns the gradients that `flattened` has taken apart.

    Args:
        kinds: What it has said of them.
        arrays: What they consist of.

    Raises:
        ValueError: If these are not of each other.
    """
    sizes = {_ABSENT: 0, _WHOLE: 1, _ROWS: 2}
    is_text = isinstance(kinds, str) and set(kinds) <= set(sizes)
    if not is_text or sum(sizes[kind] for kind in kinds) != len(arrays):
        raise ValueError(
            "A message says what its arrays are. Received: "
            f"{str(kinds)[:50]!r} with {len(arrays)} arrays. Use the same tfdp "
            "on all workers."
        )
    given = iter(arrays)
    return [
        None
        if kind == _ABSENT
        else next(given)
        if kind == _WHOLE
        else Rows(next(given), next(given))
        for kind in kinds
    ]


def check_update(
    gradients: Sequence[Gradient], variables: Sequence[Described], where: str
) -> None:
    """Checks that an update has gradients, and of these variables.

    Args:
        gradients: Those of all variables, or `None`.
        variables: What is known of the variables.
        where: Which update it is, for the message.

    Raises:
        ValueError: If there is none, or one does not fit.
    """
    check_gradients(gradients, variables)
    if all(gradient is None for gradient in gradients):
        raise ValueError(
            "An update needs a gradient. Received: `None` for all variables, "
            f"at {where}. Train a loss that depends on one of them."
        )


def check_gradients(
    gradients: Sequence[Gradient], described: Sequence[Described]
) -> None:
    """Checks that gradients are those of some variables.

    Args:
        gradients: The gradients.
        described: The variables.

    Raises:
        ValueError: If one is not.
    """
    whole = [None if isinstance(g, Rows) else g for g in gradients]
    check_arrays(whole, described, "a gradient")
    for gradient, variable in zip(gradients, described, strict=True):
        if isinstance(gradient, Rows) and not _are_rows(gradient, variable):
            raise ValueError(
                "Rows of a gradient must be some of its variable's, each once. "
                f"Received: {gradient.indices.dtype} "
                f"{gradient.indices.shape} for {gradient.values.dtype.name} "
                f"{gradient.values.shape}, of {variable.path}, which is "
                f"{variable.dtype} {variable.shape}. Use the same tfdp on all "
                "workers."
            )


def _are_rows(rows: Rows, variable: Described) -> bool:
    indices, values = rows
    if indices.dtype != np.int64 or indices.ndim != 1 or not variable.shape:
        return False
    shape = (len(indices), *variable.shape[1:])
    if (values.dtype.name, values.shape) != (variable.dtype, shape):
        return False
    if not len(indices):
        return True
    is_inside = indices.min() >= 0 and indices.max() < variable.shape[0]
    return bool(is_inside) and len(np.unique(indices)) == len(indices)
