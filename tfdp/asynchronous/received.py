"""What a worker gets of an exchange, and what it takes."""

from typing import NamedTuple

import numpy as np


class Weights(NamedTuple):
    """Weights of one version.

    Attributes:
        version: How many updates of all workers they have seen.
        values: Their values, in the order of the variables; each array has
            memory of its own.
    """

    version: int
    values: list[np.ndarray]


class Spent(NamedTuple):
    """Seconds of a worker, of which only differences count.

    Attributes:
        exchanging: Sending gradients and getting weights, all that takes.
        waiting: Of these, waiting for room.
    """

    exchanging: float = 0.0
    waiting: float = 0.0
