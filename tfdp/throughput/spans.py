"""Single steps, and what a worker does around them, as rows of numbers.

Numbers, so that workers can tell each other by what they reduce gradients
with. A row has `WIDTH` of them, the first of which is a `Span`:

| Span    | Then                                                               |
| ------- | ------------------------------------------------------------------ |
| `STEP`  | number of the step, begin, data asked for, end, whether left out   |
| `BATCH` | number of the step, data there, gradients there, reduced, replica  |
| `STATE` | index into `NAMES`, begin, end, 0, 0                               |

Times are seconds of the worker's clock; a micro-batch after which nothing is
reduced has 0. Replicas are counted within the worker.
"""

import enum
from collections.abc import Sequence

import numpy as np

WIDTH = 6


class Span(enum.IntEnum):
    """What a row is of."""

    STEP = 0
    BATCH = 1
    STATE = 2


def no_rows() -> np.ndarray:
    """Returns the table of nothing."""
    return np.zeros((0, WIDTH))


def state_row(name: int, begin: float, end: float) -> tuple[float, ...]:
    """Returns the row of a state.

    Args:
        name: Which one.
        begin: When it began.
        end: When it ended.
    """
    return float(Span.STATE), float(name), begin, end, 0.0, 0.0


def step_rows(
    numbers: np.ndarray,
    begins: np.ndarray,
    asked: np.ndarray,
    ends: np.ndarray,
    by_replica: Sequence[tuple[np.ndarray, np.ndarray]],
) -> np.ndarray:
    """Returns the rows of steps.

    Args:
        numbers: `[steps]`; the number of each, -1 for one to leave out.
        begins: `[steps]`; when each began.
        asked: `[steps]`; when it asked for data.
        ends: `[steps]`; when it ended.
        by_replica: For each replica its stamps, `[micro_batches, 4]`, and
            the index of the step of each.

    Returns:
        Array of shape `[rows, WIDTH]`.

    Example:

    >>> stamps = np.array([[1.2, 1.6, 1.8, 32.0]])
    >>> one = [(stamps, np.array([0]))]
    >>> step_rows(*np.array([[7], [1.0], [1.1], [2.0]]), one).tolist()
    [[0.0, 7.0, 1.0, 1.1, 2.0, 0.0], [1.0, 7.0, 1.2, 1.6, 1.8, 0.0]]
    """
    is_told = numbers >= 0
    if not is_told.any():
        return no_rows()
    steps = np.zeros((len(numbers), WIDTH))
    steps[:, 0] = Span.STEP
    steps[:, 1:5] = np.stack([numbers, begins, asked, ends], axis=1)
    tables = [steps[is_told]]
    for replica, (stamps, of) in enumerate(by_replica):
        batches = np.zeros((len(stamps), WIDTH))
        batches[:, 0] = Span.BATCH
        batches[:, 1] = numbers[of]
        batches[:, 2:5] = stamps[:, :3]
        batches[:, 5] = replica
        tables.append(batches[is_told[of]])
    return np.concatenate(tables)
