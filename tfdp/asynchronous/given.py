"""The weights that a server has given, to tell what a program sets itself."""

from collections.abc import Sequence

import numpy as np

from tfdp.asynchronous.received import Weights


class Given:
    """Remembers what a worker was given last.

    Attributes:
        version: Of the last exchange; `None` before the first of an epoch.
        values: What the server is known to have, or to have had for this
            worker; `None` where an exchange was not kept.
        keeps: Whether exchanges are kept, which is a copy of each.

    Example:

    >>> given = Given()
    >>> given.keep([np.zeros(2), np.ones(2)])
    >>> given.differing([np.zeros(2), np.zeros(2)])
    [1]
    """

    def __init__(self) -> None:
        self.version: int | None = None
        self.values: list[np.ndarray] | None = None
        self.keeps = False

    def note(self, weights: Weights) -> None:
        """Notes what an exchange has given.

        Args:
            weights: It.
        """
        self.version = weights.version
        # TensorFlow may change in place what it is given.
        self.values = (
            [np.array(value) for value in weights.values]
            if self.keeps
            else None
        )

    def keep(self, values: Sequence[np.ndarray]) -> None:
        """Keeps what the server is known to have.

        Args:
            values: The weights; nobody else may change them.
        """
        self.values = list(values)

    def differing(self, own: Sequence[np.ndarray]) -> list[int]:
        """Returns the places of weights that are no longer what was given.

        Args:
            own: Weights as they are.
        """
        if self.values is None:
            return []
        pairs = enumerate(zip(self.values, own, strict=True))
        return [place for place, (one, other) in pairs if _differ(one, other)]


def _differ(one: np.ndarray, other: np.ndarray) -> bool:
    # By their bits: what is no number is not equal to itself.
    return not np.array_equal(_bits(one), _bits(other))


def _bits(array: np.ndarray) -> np.ndarray:
    return np.ravel(array).view(f"u{array.dtype.itemsize}")
