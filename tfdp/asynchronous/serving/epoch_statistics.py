"""What workers have at the end of an epoch, brought together."""

from collections.abc import Mapping, Sequence

import numpy as np


def brought_together(
    brought: Mapping[int, tuple[float, Sequence[np.ndarray]]],
    summed: Sequence[bool],
) -> list[np.ndarray]:
    """Returns the means of arrays, or their sums, in their dtypes.

    Args:
        brought: By worker, how many samples it has, and its arrays. If nobody
            has any, all count alike.
        summed: For each array, whether it is added up; else it is averaged by
            the samples.

    Example:

    >>> a, b = np.float32([1]), np.float32([5])
    >>> brought_together({0: (3, [a, a]), 1: (1, [b, b])}, [False, True])
    [array([2.], dtype=float32), array([6.], dtype=float32)]
    """
    weights = [samples for samples, _ in brought.values()]
    if not sum(weights):
        weights = [1.0] * len(weights)
    columns = zip(*(arrays for _, arrays in brought.values()), strict=True)
    together = []
    for column, is_sum in zip(columns, summed, strict=True):
        stacked = np.stack([np.asarray(each, "float64") for each in column])
        total = (
            stacked.sum(axis=0)
            if is_sum
            else np.average(stacked, axis=0, weights=weights)
        )
        together.append(np.asarray(total).astype(column[0].dtype))
    return together
