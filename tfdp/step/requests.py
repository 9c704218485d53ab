"""Times at which a worker, in a step, asks for data."""

from typing import Any

import numpy as np
import tensorflow as tf

from tfdp.step.clock import GraphClock


class RequestLog:
    """Writes down when data is asked for, in the graph of a step.

    What comes before in a step is starting it, whatever its data; what comes
    after, until the data is there, is waiting for it. All replicas of a worker
    ask at once.

    Args:
        strategy: The tfdp strategy at work.
        clock: What to measure by.
        capacity: Requests between two readings; of more the oldest are lost.

    Attributes:
        traces: How often a graph with stamps was made.
    """

    def __init__(self, strategy: Any, clock: GraphClock, capacity: int) -> None:
        self.traces = 0
        self._clock = clock
        self._capacity = capacity
        with strategy.scope():
            times, count = (
                tf.Variable(
                    tf.zeros(shape, dtype),
                    trainable=False,
                    synchronization=tf.VariableSynchronization.ON_READ,
                    aggregation=tf.VariableAggregation.SUM,
                )
                for shape, dtype in ((capacity, tf.float64), ((), tf.int64))
            )
        self._times = strategy.experimental_local_results(times)[0]
        self._count = strategy.experimental_local_results(count)[0]
        self._read = int(self._count.numpy())

    def stamp(self) -> tf.Tensor:
        """Stamps a request.

        Returns:
            The time, a scalar tensor that the request has to wait for.
        """
        if not tf.executing_eagerly():
            self.traces += 1
        count = self._count.handle
        asked = self._clock.beside(count)
        place = tf.raw_ops.ReadVariableOp(resource=count, dtype=tf.int64)
        tf.raw_ops.ResourceScatterUpdate(
            resource=self._times.handle,
            indices=place % self._capacity,
            updates=asked,
        )
        tf.raw_ops.AssignAddVariableOp(
            resource=count, value=tf.ones((), tf.int64)
        )
        return asked

    def read(self) -> np.ndarray:
        """Returns the times since the last call, `[requests]`."""
        before, self._read = self._read, int(self._count.numpy())
        first = max(before, self._read - self._capacity)
        places = np.arange(first, self._read) % self._capacity
        return self._times.numpy()[places]
