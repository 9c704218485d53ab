"""What the workers of a strategy tell each other outside of training steps.

Every function is a collective: every worker must make the same call at the
same point, in cross-replica context and outside of any `tf.function`.
"""

import functools
import json
import secrets
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from tfdp.board import own_board
from tfdp.cluster import meeting_all_workers
from tfdp.upstream.tensorflow import tf_runtime


class Workers(Protocol):
    """A strategy that knows its workers: any of tfdp's."""

    @property
    def num_workers(self) -> int:
        """Number of processes that train together."""

    @property
    def worker_index(self) -> int:
        """Place of this process among the workers."""


def all_gather(
    strategy: Workers,
    values: np.ndarray | list[int] | list[float],
    *,
    often: bool = False,
) -> np.ndarray:
    """Gives every worker the values of all workers.

    Args:
        strategy: The strategy whose workers meet.
        values: This worker's numbers; the same shape `[n]` and type on every
            worker. Integers travel as int64, others as float64.
        often: Whether so many numbers are gathered again and again, for which
            a graph is worth making: it takes less than half the time.
            Defaults to `False`.

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
    with (
        own_board().waiting("what all workers tell each other"),
        meeting_all_workers(getattr(strategy, "cluster", None)),
    ):
        if often:
            return _summed_in_graph(strategy, tf.constant(table)).numpy()
        return _summed(strategy, table)


def gather_objects(strategy: Workers, value: Any) -> list[Any]:
    """Gives every worker the values of all workers.

    Args:
        strategy: The strategy whose workers meet.
        value: Anything JSON can hold; may differ in size between workers.

    Returns:
        The values, by worker.
    """
    own = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = all_gather(strategy, [own.size])[:, 0]
    padded = np.zeros(sizes.max(), np.int64)
    padded[: own.size] = own
    table = all_gather(strategy, padded).astype(np.uint8)
    return [
        json.loads(row[:size].tobytes())
        for row, size in zip(table, sizes, strict=True)
    ]


def broadcast(strategy: Workers, values: np.ndarray) -> np.ndarray:
    """Gives every worker the chief's values, bit by bit.

    Args:
        strategy: The strategy whose workers meet.
        values: Array of the same shape and type on every worker.

    Returns:
        The chief's array.
    """
    # TensorFlow's sum of no elements crashes.
    if strategy.num_workers == 1 or not values.size:
        return values
    # Integers pass a sum unchanged, also those that stand for NaN or -0.
    octets = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
    padded = np.zeros(-(-octets.size // 8) * 8, np.uint8)
    padded[: octets.size] = octets
    words = padded.view(np.int64)
    if strategy.worker_index:
        words = np.zeros_like(words)
    with (
        own_board().waiting("the chief's values"),
        meeting_all_workers(getattr(strategy, "cluster", None)),
    ):
        summed = _summed(strategy, words).view(np.uint8)[: octets.size]
    return np.frombuffer(summed.tobytes(), values.dtype).reshape(values.shape)


def check_same(strategy: Workers, items: Mapping[str, Any]) -> None:
    """Checks that all workers run the same program.

    Args:
        strategy: The strategy whose workers meet.
        items: What must be the same, by name; anything JSON can hold.

    Raises:
        RuntimeError: On every worker, with the items that differ.
    """
    with own_board().waiting("the comparison of programs"):
        by_worker = gather_objects(strategy, dict(items))
    names = dict.fromkeys(name for given in by_worker for name in given)
    differing = [
        f"{name}: "
        + ", ".join(
            f"{given.get(name)!r} on worker {worker}"
            for worker, given in enumerate(by_worker)
        )
        for name in names
        if any(given.get(name) != by_worker[0].get(name) for given in by_worker)
    ]
    if differing:
        raise RuntimeError(
            "Every worker must train the same model in the same way. "
            f"Received {'; '.join(differing)}. Run the same program with the "
            "same arguments and versions on every worker."
        )


def agreed_seed(strategy: Workers) -> int:
    """Returns the chief's global seed, or one drawn by it where it has none.

    Args:
        strategy: The strategy whose workers meet.
    """
    seed = tf_runtime.global_seed()
    own = secrets.randbits(31) if seed is None else seed
    return int(all_gather(strategy, [own])[0, 0])


def check_same_packs(strategy: Workers, bytes_per_pack: int) -> None:
    """Checks that packs of gradients are the same everywhere; a collective.

    Args:
        strategy: The strategy whose workers meet.
        bytes_per_pack: Size of this worker's.

    Raises:
        RuntimeError: If a worker has others.
    """
    sizes = all_gather(strategy, [bytes_per_pack])[:, 0].tolist()
    if len(set(sizes)) > 1:
        raise RuntimeError(
            "All workers must send gradients in packs of the same size. "
            f"Received: {sizes} bytes, by worker. Give all the same "
            "`TFDP_PACK_MIB` and the same `communication_options`."
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


@functools.partial(tf.function, autograph=False)
def _summed_in_graph(strategy: Any, table: tf.Tensor) -> tf.Tensor:
    replicas_here = strategy.num_replicas_in_sync // strategy.num_workers

    def on_replica() -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        place = context.replica_id_in_sync_group % replicas_here
        # This also puts the value on the replica's device; what is infinite
        # stands no product.
        own = tf.where(tf.equal(place, 0), table, tf.zeros_like(table))
        return context.all_reduce(tf.distribute.ReduceOp.SUM, own)

    return strategy.experimental_local_results(strategy.run(on_replica))[0]
