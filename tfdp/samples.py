"""How many samples the replica at work was given.

A strategy's `run` knows; the optimizer, called from inside it, needs it. The
two meet here, in a slot of the thread that runs (or traces) the replica.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

_slot = threading.local()


def local_samples() -> tf.Tensor | None:
    """Returns the number of samples given to this replica.

    Returns:
        Scalar float32 tensor, or `None` outside of a tfdp strategy's `run`.
    """
    return getattr(_slot, "samples", None)


@contextlib.contextmanager
def counted(data: Any) -> Iterator[None]:
    """Makes the number of samples in `data` known while the block runs.

    Args:
        data: Structure of tensors, dense, sparse or ragged, whose first axis
            is the batch. The first that has an axis is counted. Where none
            has, every replica counts as one sample, so that replicas weigh
            the same.
    """
    previous = local_samples()
    _slot.samples = tf.cast(_batch_size(data), tf.float32)
    try:
        yield
    finally:
        _slot.samples = previous


class SampleCounter:
    """Counts the samples that each replica has trained on.

    Args:
        strategy: The strategy whose replicas count. Create the counter in
            its scope.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self._strategy = strategy
        with tf.init_scope():
            self._count = tf.Variable(
                0,
                dtype=tf.int64,
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.SUM,
            )

    def add(self, samples: tf.Tensor) -> None:
        """Adds the samples of this replica, in replica context."""
        self._count.assign_add(tf.cast(samples, tf.int64))

    def by_replica(self) -> list[int]:
        """Returns the counts of this worker's replicas, in their order.

        Reads this worker's memory only; the workers need not meet.
        """
        counts = self._strategy.experimental_local_results(self._count)
        return [int(count.numpy()) for count in counts]


def _batch_size(data: Any) -> tf.Tensor | int:
    for leaf in tf.nest.flatten(data):
        if isinstance(leaf, tf.RaggedTensor):
            return leaf.nrows()
        if isinstance(leaf, tf.SparseTensor):
            return leaf.dense_shape[0]
        if tf.is_tensor(leaf) and leaf.shape.rank != 0:
            return tf.shape(leaf)[0]
    return 1
