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

    def by_replica(indices: tf.Tensor) -> tf.data.Dataset:
        return tf.data.Dataset.range(share.replicas).map(
            lambda replica: indices[begins[replica] : ends[replica]]
        )

    whole = tf.data.Dataset.from_tensors(arrays).repeat()
    batches = order.batch(micro_batch)
    return Split(
        tf.data.Dataset.zip(batches.flat_map(by_replica), whole)
        .map(
            lambda indices, arrays: tf.nest.map_structure(
                lambda array: tf.gather(array, indices), arrays
            ),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        .prefetch(share.replicas),
        order=batches,
        steps=math.ceil(count / micro_batch),
    )
