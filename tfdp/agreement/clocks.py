"""What the clock of each worker shows when the chief's shows zero."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfdp.agreement.gathering import Workers, all_gather

# One after the other in a graph, which is run several times.
_ROUNDS, _CALLS = 8, 4


class Clocks(NamedTuple):
    """How the clocks of workers differ.

    Attributes:
        offsets: Seconds by which each is ahead of the chief's.
        errors: Seconds by which that may be wrong, at most.
    """

    offsets: tuple[float, ...]
    errors: tuple[float, ...]


def compared_clocks(
    strategy: Workers, clock: Callable[[], float] | None = None
) -> Clocks:
    """Compares the clocks of all workers; a collective.

    Nobody knows a sum of what all have given before all of them have begun to
    give. So a worker that has it looks at its clock later than any other did
    before, which bounds the difference of their clocks from both sides. Of
    some rounds the closest bounds count, which are those of the shortest.

    Args:
        strategy: The strategy whose workers meet.
        clock: Returns the time of this worker in seconds. Defaults to
            `None`: TensorFlow's own, which is that of `time.time`.

    Returns:
        The differences, the same on every worker.

    Example:

    >>> compared_clocks(tfdp.MirroredStrategy(["CPU:0"]))
    Clocks(offsets=(0.0,), errors=(0.0,))
    """
    if strategy.num_workers == 1:
        return Clocks((0.0,), (0.0,))
    own = np.concatenate(
        [_looks(strategy, clock).numpy() for _ in range(_CALLS)]
    )
    table = all_gather(strategy, own.ravel())
    before, after = np.moveaxis(table.reshape(-1, len(own), 2), -1, 0)
    return _differences(before, after)


@functools.partial(tf.function, autograph=False)
def _looks(strategy: Any, clock: Callable[[], float] | None) -> tf.Tensor:
    """Looks at the clock before and after each of some sums."""

    def now(*after: tf.Tensor) -> tf.Tensor:
        with tf.control_dependencies(after):
            if clock is None:
                return tf.timestamp()
            return tf.ensure_shape(tf.py_function(clock, [], tf.float64), ())

    def on_replica() -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        looks: list[tf.Tensor] = []
        for _ in range(_ROUNDS):
            looks.append(now(*looks[-1:]))
            with tf.control_dependencies(looks[-1:]):
                one = tf.ones(())
            found = context.all_reduce(tf.distribute.ReduceOp.SUM, one)
            # What a device will have is there only once it is fetched.
            with tf.device("CPU:0"):
                found = tf.identity(found)
            looks.append(now(found))
        return tf.reshape(tf.stack(looks), (_ROUNDS, 2))

    results = strategy.run(on_replica)
    return strategy.experimental_local_results(results)[0]


def _differences(before: np.ndarray, after: np.ndarray) -> Clocks:
    """Returns the differences of clocks looked at before and after meeting.

    Args:
        before: `[workers, rounds]`.
        after: `[workers, rounds]`.
    """
    least = (before - after[0]).max(axis=1)
    most = (after - before[0]).min(axis=1)
    offsets, errors = (least + most) / 2, np.abs(most - least) / 2
    offsets[0] = errors[0] = 0.0
    return Clocks(tuple(offsets.tolist()), tuple(errors.tolist()))
