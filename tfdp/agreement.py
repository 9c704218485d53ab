"""What the workers of a strategy tell each other outside of training steps."""

from typing import Any

import numpy as np
import tensorflow as tf


def all_gather(
    strategy: tf.distribute.Strategy,
    values: np.ndarray | list[int] | list[float],
    *,
    index: int,
    num_workers: int,
) -> np.ndarray:
    """Gives every worker the values of all workers.

    A collective: every worker must make the same call at the same point, in
    cross-replica context and outside of any `tf.function`.

    Args:
        strategy: The strategy whose workers meet.
        values: This worker's numbers; the same shape `[n]` and type on every
            worker. Integers travel as int64, others as float64.
        index: Place of this worker, from 0.
        num_workers: Number of workers.

    Returns:
        Array of shape `[num_workers, n]`; row `i` is what worker `i` gave.
    """
    own = np.asarray(values)
    own = own.astype(
        np.int64 if np.issubdtype(own.dtype, np.integer) else np.float64
    )
    if num_workers == 1:
        return own[np.newaxis]
    table = np.zeros((num_workers, *own.shape), own.dtype)
    table[index] = own

    replicas_here = strategy.num_replicas_in_sync // num_workers

    def from_first_replica(context: Any) -> tf.Tensor:
        is_first = context.replica_id_in_sync_group % replicas_here == 0
        return tf.constant(table if is_first else np.zeros_like(table))

    distributed = strategy.experimental_distribute_values_from_function(
        from_first_replica
    )
    return strategy.reduce("SUM", distributed, axis=None).numpy()
