"""How many samples a batch of a pipeline has."""

import tensorflow as tf

from tfdp.upstream.tensorflow import tf_datasets

# What leaves each batch as large as it was, of one dataset or several.
_KEEPS_SIZES = (
    "AssertCardinality",
    "Cache",
    "Concatenate",
    "Filter",
    "Map",
    "Options",
    "ParallelMap",
    "Prefetch",
    "Repeat",
    "Shard",
    "Shuffle",
    "Skip",
    "Take",
    "Zip",
)


def micro_batch_of(dataset: tf.data.Dataset) -> int | None:
    """Returns the samples of a full batch.

    Args:
        dataset: What a program gives to `fit`.

    Returns:
        The number; `None` where something else than `batch` puts samples
        together, such as a generator or a function.

    Example:

    >>> micro_batch_of(tf.data.Dataset.range(8).batch(3).prefetch(1))
    3
    """
    batching = tf_datasets.batching(dataset)
    if batching is not None:
        return batching.size
    if tf_datasets.kind(dataset) not in _KEEPS_SIZES:
        return None
    sizes = {micro_batch_of(part) for part in tf_datasets.inputs(dataset)}
    return sizes.pop() if len(sizes) == 1 else None
