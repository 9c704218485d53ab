"""The mean of what workers have, each by its samples."""

from collections.abc import Mapping, Sequence

import numpy as np


def weighted_mean(
    brought: Mapping[int, tuple[float, Sequence[np.ndarray]]],
) -> list[np.ndarray]:
    """Returns the means of arrays, in their dtypes.

    Args:
        brought: By worker, how many samples it has, and its arrays. If nobody
            has any, all count alike.

    Example:

    >>> a, b = np.float32([1]), np.float32([5])
    >>> weighted_mean({0: (3, [a]), 1: (1, [b])})
    [array([2.], dtype=float32)]
    """
    weights = [samples for samples, _ in brought.values()]
    if not sum(weights):
        weights = [1.0] * len(weights)
    columns = zip(*(arrays for _, arrays in brought.values()), strict=True)
    return [
        np.average(
            np.stack([np.asarray(each, "float64") for each in column]),
            axis=0,
            weights=weights,
        ).astype(column[0].dtype)
        for column in columns
    ]
