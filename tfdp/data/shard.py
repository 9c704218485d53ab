"""`tfdp.shard`: where the samples of workers part."""

from typing import TypeVar

import tensorflow as tf

from tfdp.data.mark import marked

Data = TypeVar("Data")


def shard(data: Data) -> Data:
    """Splits data between workers from here on, so that each computes its own.

    What stands before the mark, every worker does; what stands after it, each
    does for its own samples: with N workers, every Nth. Without a mark, each
    worker reads and computes all samples, and drops those of the others at
    the end.

    Where the order is decided before the mark, each micro-batch is made of the
    same samples as on one device. Where something after it shuffles, filters
    or reads files, each sample is still seen once per epoch; which of them
    meet in a micro-batch is not the same then.

    Args:
        data: A `tf.data.Dataset`, not batched yet. It is batched after the
            mark, by the micro-batch, over all workers. The strategy must have
            been made.

    Returns:
        The data of this worker; as given, where it is the only one.

    Raises:
        TypeError: If `data` is nothing of these.
        ValueError: If it was split before.
        RuntimeError: If it is inside of another dataset, or the environment
            names several workers whose strategy is not made yet.

    Example:

    >>> import tensorflow as tf
    >>> numbers = tf.data.Dataset.range(6)
    >>> dataset = numbers.apply(shard).map(lambda x: 10 * x).batch(3)
    >>> [batch.tolist() for batch in dataset.as_numpy_iterator()]
    [[0, 10, 20], [30, 40, 50]]
    """
    if isinstance(data, tf.data.Dataset):
        return marked(data)
    raise TypeError(
        "`tfdp.shard` splits a tf.data.Dataset. Received: "
        f"{type(data).__name__}. Arrays are split by themselves when given to "
        "`fit`; write `dataset.apply(tfdp.shard)`."
    )
