"""What the workers of a strategy tell each other outside of training steps.

Every function is a collective: every worker must make the same call at the
same point, in cross-replica context and outside of any `tf.function`.
"""

import secrets
import zlib
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from tfdp import _tensorflow


class Workers(Protocol):
    """A strategy that knows its workers: any of tfdp's."""

    @property
    def num_workers(self) -> int:
        """Number of processes that train together."""

    @property
    def worker_index(self) -> int:
        """Place of this process among the workers."""


def all_gather(
    strategy: Workers, values: np.ndarray | list[int] | list[float]
) -> np.ndarray:
    """Gives every worker the values of all workers.

    Args:
        strategy: The strategy whose workers meet.
        values: This worker's numbers; the same shape `[n]` and type on every
            worker. Integers travel as int64, others as float64.

    Returns:
        Array of shape `[num_workers, n]`; row `i` is what worker `i` gave.
    """
    own = np.asarray(values)
    is_integer = np.issubdtype(own.dtype, np.integer)
    own = own.astype(np.int64 if is_integer else np.float64)
    if strategy.num_workers == 1:
        return own[np.newaxis]
    table = np.zeros((strategy.num_workers, *own.shape), own.dtype)
    table[strategy.worker_index] = own
    return _summed(strategy, table)


def agreed_seed(strategy: Workers) -> int:
    """Returns the chief's global seed, or one drawn by it where it has none.

    Args:
        strategy: The strategy whose workers meet.
    """
    seed = _tensorflow.global_seed()
    own = secrets.randbits(31) if seed is None else seed
    return int(all_gather(strategy, [own])[0, 0])


def have_same_length(strategy: Workers, dataset: tf.data.Dataset) -> bool:
    """Whether the workers' datasets have the same number of batches.

    Args:
        strategy: The strategy whose workers meet.
        dataset: This worker's dataset.
    """
    lengths = all_gather(strategy, [int(dataset.cardinality())])
    return bool((lengths == lengths[0]).all())


def check_same_dataset(strategy: Workers, dataset: tf.data.Dataset) -> None:
    """Checks that workers that are to share a dataset all have the same.

    Args:
        strategy: The strategy whose workers meet.
        dataset: This worker's copy of the dataset.

    Raises:
        ValueError: On every worker, if the copies differ in their number of
            batches or in the seeds of their shuffling.
    """
    seeds = _tensorflow.shuffle_seeds(dataset)
    table = all_gather(
        strategy, [int(dataset.cardinality()), zlib.crc32(str(seeds).encode())]
    )
    lengths, shufflings = table.T
    if (lengths != lengths[0]).any():
        raise ValueError(
            "Every worker must be given the same dataset. Received numbers of "
            f"batches, by worker: {', '.join(map(str, lengths))}. Give each "
            "worker the whole dataset, or, where each makes its own shard, "
            "use `strategy.distribute_datasets_from_function`."
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


def _summed(strategy: Any, table: np.ndarray) -> np.ndarray:
    replicas_here = strategy.num_replicas_in_sync // strategy.num_workers

    def on_first_replica(context: Any) -> tf.Tensor:
        is_first = context.replica_id_in_sync_group % replicas_here == 0
        return tf.constant(table if is_first else np.zeros_like(table))

    distributed = strategy.experimental_distribute_values_from_function(
        on_first_replica
    )
    return strategy.reduce("SUM", distributed, axis=None).numpy()
