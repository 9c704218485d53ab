"""`tfdp.shard`: where the samples of workers part."""

from typing import TypeVar

import keras
import tensorflow as tf

from tfdp.cluster.membership import membership
from tfdp.data.blocks import in_blocks
from tfdp.data.grain_data import is_grain
from tfdp.data.grain_shards import own_elements
from tfdp.data.items import own_items
from tfdp.data.mark import marked

Data = TypeVar("Data")


def shard(data: Data) -> Data:
    """Splits data between workers from here on, so that each computes its own.

    What stands before the mark, every worker does; what stands after it, each
    does for its own samples: with N workers, every Nth. Without a mark, each
    worker reads and computes all samples, and drops those of the others at
    the end.

    What reads it without the strategy, such as a model loaded on the chief
    alone, sees this worker's samples and no others.

    Where the order is decided before the mark, each micro-batch is made of the
    same samples as on one device. Where something after it shuffles, filters
    or reads files, each sample is still seen once per epoch; which of them
    meet in a micro-batch is not the same then.

    The items of a `keras.utils.PyDataset` are batches already: each worker
    computes one of every N, so that N items are a micro-batch, and steps are N
    times fewer. `fit` shuffles steps, as one device does that has items of the
    whole micro-batch. Where `on_epoch_begin` or `on_epoch_end` reorders items,
    it must do so in the same way on all workers, by a seed they share, which
    is compared each time.

    Elements of a `grain.MapDataset` part as those of a `tf.data.Dataset`, but
    its batches are a worker's share of the micro-batch: `.batch(micro_batch //
    num_workers)`. A `grain.DataLoader` is given `tfdp.shard_options()`.

    Where workers do not wait for each other, each takes whole batches: those
    samples are its own that make up a batch of its own, items of a `PyDataset`
    and elements of a `grain.MapDataset` are batches as they are, and what
    follows the mark of a `tf.data.Dataset` is `map`, `prefetch` and one
    `batch`.

    Args:
        data: A `tf.data.Dataset`, not batched yet. It is batched after the
            mark, by the micro-batch, over all workers. Or a
            `keras.utils.PyDataset` whose items are a worker's share of the
            micro-batch; those after each other are of the same step. Or a
            `grain.MapDataset`, which is batched after the mark by a worker's
            share. The strategy must have been made.

    Returns:
        The data of this worker; as given, where it is the only one.

    Raises:
        TypeError: If `data` is nothing of these.
        ValueError: If it was split before, or a `grain.MapDataset` has fewer
            elements than there are workers.
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
        own = membership()
        if own.takes_whole_batches and own.num_workers > 1:
            return in_blocks(data)
        return marked(data)
    if isinstance(data, keras.utils.PyDataset):
        return own_items(data)
    if is_grain(data, "MapDataset"):
        return own_elements(data)
    raise TypeError(
        "`tfdp.shard` splits a tf.data.Dataset, a keras.utils.PyDataset or a "
        f"grain.MapDataset. Received: {type(data).__name__}. Arrays are split "
        "by themselves when given to `fit`; split a grain.IterDataset before "
        "`to_iter_dataset`, and give a grain.DataLoader "
        "`tfdp.shard_options()`."
    )
