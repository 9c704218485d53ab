"""What a pipeline must be, so that its batches are those of one device."""

import itertools

import tensorflow as tf

from tfdp.data.blocks import Blocks, blocks_of
from tfdp.upstream.tensorflow import tf_datasets

# What keeps samples, or batches, as many as they are, and in their order.
_KEEPS = ("Map", "ParallelMap", "Prefetch", "Options")


def check_whole(dataset: tf.data.Dataset, num_workers: int) -> Blocks | None:
    """Checks that batches of a pipeline are the same on all workers.

    Args:
        dataset: The pipeline.
        num_workers: How many workers read it.

    Returns:
        What chooses its samples, if `tfdp.shard` was applied to it.

    Raises:
        ValueError: If workers read in orders of their own, or if samples of
            batches that are marked do not stay together.
    """
    for node in tf_datasets.through(dataset):
        if tf_datasets.leaves_order(node):
            raise ValueError(
                "Every worker must read the batches in the same order, or "
                "some are seen twice and others never. Received: "
                f"`{tf_datasets.called(node)}(..., deterministic=False)`. "
                "Leave out `deterministic=False`."
            )
    seeds = tf_datasets.shuffle_seeds(dataset)
    if num_workers > 1 and (0, 0) in itertools.pairwise(seeds):
        raise ValueError(
            "Every worker must shuffle in the same order, or some samples are "
            "seen twice and others never. Received: a shuffling without a "
            "seed, of a dataset that was made before the strategy. Make the "
            "strategy first, or give `shuffle` a seed."
        )
    if not any(map(blocks_of, tf_datasets.through(dataset))):
        return None
    return _blocks_at_end(dataset)


def _blocks_at_end(dataset: tf.data.Dataset) -> Blocks:
    node, batch = dataset, None
    while (blocks := blocks_of(node)) is None:
        batching = tf_datasets.batching(node)
        is_first = batching is not None and batch is None
        if not is_first and tf_datasets.kind(node) not in _KEEPS:
            raise ValueError(
                "After `tfdp.shard` samples stay together, in batches of whole "
                "workers: `map` and `prefetch` may follow, and one `batch`. "
                f"Received: `{tf_datasets.called(node)}` after it. Move it "
                "before the mark, or leave out the mark."
            )
        if is_first:
            batch = batching
        (node,) = tf_datasets.inputs(node)
    if batch is None:
        raise ValueError(
            "A dataset that is split by `tfdp.shard` is batched after the "
            "mark. Received: no `batch` after it. Apply `tfdp.shard` to "
            "samples, and move `batch` after it."
        )
    blocks.size, blocks.drops_remainder = batch.size, batch.drops_remainder
    return blocks
