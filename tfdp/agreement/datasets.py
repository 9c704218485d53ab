"""What workers must agree on about their data, before they train on it.

Every function is a collective: see `tfdp.agreement`.
"""

import warnings
import zlib

import numpy as np
import tensorflow as tf

from tfdp.agreement.digests import digest_of_sources, octets_of
from tfdp.agreement.gathering import Workers, all_gather
from tfdp.upstream.tensorflow import tf_datasets


def have_same_length(strategy: Workers, dataset: tf.data.Dataset) -> bool:
    """Whether the workers' datasets have the same number of batches.

    Args:
        strategy: The strategy whose workers meet.
        dataset: This worker's dataset.
    """
    lengths = all_gather(strategy, [int(dataset.cardinality())])
    return bool((lengths == lengths[0]).all())


def check_same_dataset(
    strategy: Workers,
    dataset: tf.data.Dataset,
    *,
    micro_batch: int | None = None,
    samples: int = 0,
) -> None:
    """Checks that workers that are to share a dataset all have the same.

    Args:
        strategy: The strategy whose workers meet.
        dataset: This worker's copy of the dataset.
        micro_batch: Size of its batches, to compare instead of their number,
            where each worker has read a part of its own.
        samples: How many these are parts of, to compare.

    Raises:
        ValueError: On every worker, if the copies differ in their number of
            batches or samples, in the seeds of their shuffling, or in what
            they read: arrays as a whole, and what other data begin with.
    """
    if strategy.num_workers == 1:
        return
    seeds = tf_datasets.shuffle_seeds(dataset)
    table = all_gather(
        strategy,
        [
            micro_batch or int(dataset.cardinality()),
            zlib.crc32(str(seeds).encode()),
            digest_of_sources(dataset),
            samples,
        ],
    )
    lengths, shufflings, sources, counts = table.T
    if (lengths != lengths[0]).any():
        what = "sizes" if micro_batch else "numbers"
        raise ValueError(
            f"Every worker must be given the same dataset. Received {what} of "
            f"batches, by worker: {', '.join(map(str, lengths))}. Give each "
            "worker the whole dataset, or, where each makes its own shard, "
            "use `strategy.distribute_datasets_from_function`."
        )
    if (counts != counts[0]).any():
        raise ValueError(
            "Every worker must be given the samples of all workers. Received "
            "numbers of them before `tfdp.shard`, by worker: "
            f"{', '.join(map(str, counts))}. Give each worker all of them."
        )
    if (shufflings != shufflings[0]).any():
        raise ValueError(
            "Every worker must shuffle in the same order, or some samples are "
            "seen twice and others never. Received shufflings with different "
            f"seeds; worker {strategy.worker_index} has {seeds}. Workers start "
            "with one seed; where the program sets its own, call "
            "`keras.utils.set_random_seed` with the same number on every "
            "worker, before the dataset is made."
        )
    if (sources != sources[0]).any():
        differing = ", ".join(map(str, np.flatnonzero(sources != sources[0])))
        raise ValueError(
            "Every worker must be given the same samples in the same order. "
            "Received: other samples than the chief's, or in another order, "
            f"on worker {differing}. Shuffle with the same seed on every "
            "worker, or, where each worker makes its own shard, use "
            "`strategy.distribute_datasets_from_function`."
        )


def warn_of_overlap(strategy: Workers, dataset: tf.data.Dataset) -> None:
    """Warns where workers that made their own shards made overlapping ones.

    Looks at the first samples of each.

    Args:
        strategy: The strategy whose workers meet.
        dataset: This worker's dataset.
    """
    if strategy.num_workers == 1:
        return
    own = _digests_of_samples(dataset)
    by_worker = [set(row.tolist()) for row in all_gather(strategy, own)]
    for worker, theirs in enumerate(by_worker):
        common = len(theirs & by_worker[strategy.worker_index] - {0})
        repeated = np.count_nonzero(own) - len(set(own.tolist()) - {0})
        if worker != strategy.worker_index and common > 2 * repeated + 2:
            warnings.warn(
                "Each worker must make a shard of its own, or samples are seen "
                f"more than once per epoch. Received: {common} of the first "
                f"{np.count_nonzero(own)} samples of worker "
                f"{strategy.worker_index} among those of worker {worker}. "
                "Shard by the context, `dataset.shard("
                "context.num_input_pipelines, context.input_pipeline_id)`, "
                "or give `fit` the whole dataset on every worker.",
                stacklevel=4,
            )


def _digests_of_samples(
    dataset: tf.data.Dataset, count: int = 512
) -> np.ndarray:
    """CRCs of the first samples; zeros where there are fewer than `count`."""
    digests: list[int] = []
    for batch in dataset.take(16):
        leaves = [x for x in tf.nest.flatten(batch) if isinstance(x, tf.Tensor)]
        columns = [tf.unstack(x) for x in leaves if x.shape.rank]
        for row in zip(*columns, strict=False):
            digests.append(zlib.crc32(b"".join(map(octets_of, row))) or 1)
        if len(digests) >= count:
            break
    return np.array((digests + [0] * count)[:count], np.int64)
