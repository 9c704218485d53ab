"""Arrays, of which a worker gathers its own rows alone."""

import math
from typing import Any

import tensorflow as tf

from tfdp.data.index_order import in_order, shuffled_range
from tfdp.data.shares import Share
from tfdp.data.split import Split


def split_arrays(
    arrays: Any, count: int, micro_batch: int, share: Share, seed: int | None
) -> Split:
    """Splits arrays by their rows.

    Args:
        arrays: Structure of arrays or tensors with `count` rows each.
        count: How many.
        micro_batch: Samples of a micro-batch, over all workers.
        share: What this worker is given.
        seed: Seed of the order, another one in each epoch; `None` for that of
            the rows.
    """
    order = in_order(count) if seed is None else shuffled_range(count, seed)
    begins, ends = map(tf.constant, zip(*share.rows(micro_batch), strict=True))

    # Nothing is in there for AutoGraph, which takes long to see that.
    @tf.autograph.experimental.do_not_convert
    def by_replica(indices: tf.Tensor) -> tf.data.Dataset:
        @tf.autograph.experimental.do_not_convert
        def of_one(replica: tf.Tensor) -> tf.Tensor:
            return indices[begins[replica] : ends[replica]]

        return tf.data.Dataset.range(share.replicas).map(of_one)

    @tf.autograph.experimental.do_not_convert
    def gathered(indices: tf.Tensor, arrays: Any) -> Any:
        return tf.nest.map_structure(lambda x: tf.gather(x, indices), arrays)

    whole = tf.data.Dataset.from_tensors(arrays).repeat()
    batches = order.batch(micro_batch)
    return Split(
        tf.data.Dataset.zip(batches.flat_map(by_replica), whole)
        .map(gathered, num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(share.replicas),
        order=batches,
        steps=math.ceil(count / micro_batch),
    )
