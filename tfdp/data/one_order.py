"""One order of samples, of which workers take their own."""

import tensorflow as tf

from tfdp.data.mark import is_marked, wholes
from tfdp.upstream.tensorflow import tf_datasets


def in_one_order(
    dataset: tf.data.Dataset, *, has_own_shards: bool = False
) -> tf.data.Dataset:
    """Has workers read in one order, up to where their samples part.

    Args:
        dataset: What each worker is given.
        has_own_shards: Whether workers part where it calls `shard`, and not
            at a mark or its end. Defaults to `False`.

    Returns:
        The dataset, without the option not to keep the order.

    Raises:
        ValueError: If an operation up to there does not keep the order.
    """
    if has_own_shards:
        parts = [
            part
            for node in tf_datasets.through(dataset)
            if tf_datasets.kind(node) == "Shard"
            for part in tf_datasets.inputs(node)
        ]
        where = " before `shard`"
    elif is_marked(dataset):
        parts = [whole for _, whole in wholes(dataset)]
        where = " before `tfdp.shard`"
    else:
        parts, where = [dataset], ""
    for node in (node for part in parts for node in tf_datasets.through(part)):
        if tf_datasets.leaves_order(node):
            raise ValueError(
                "Every worker must read the samples in the same order, or "
                "some are seen twice and others never. Received: "
                f"`{tf_datasets.called(node)}(..., deterministic=False)`"
                f"{where}. Leave out `deterministic=False`, or move it behind "
                "`tfdp.shard`, where each worker has samples of its own."
            )
    if not parts or dataset.options().deterministic is not False:
        return dataset
    keeping = tf.data.Options()
    keeping.deterministic = True
    return dataset.with_options(keeping)
