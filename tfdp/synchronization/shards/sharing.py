"""Gives what owners have updated to all replicas."""

import math
from collections.abc import Mapping, Sequence

import tensorflow as tf

from tfdp.step import call_for_each_replica

Parts = Mapping[int, Sequence[tf.Variable]]


def share_parts(parts: Parts, owners: Mapping[int, int]) -> None:
    """Copies within a process, in cross-replica context.

    Args:
        parts: For each variable, its part on each replica.
        owners: For each variable, the replica whose part is right.
    """
    for place, of_replicas in parts.items():
        value = of_replicas[owners[place]].read_value()
        for replica, part in enumerate(of_replicas):
            if replica != owners[place]:
                with tf.device(part.device):
                    part.assign(value)


def share_over_workers(
    strategy: tf.distribute.Strategy,
    parts: Parts,
    owners: Mapping[int, int],
    first: int,
) -> None:
    """Gathers on all workers, in cross-replica context: one collective a type.

    Args:
        strategy: The strategy of the replicas.
        parts: For each variable, its part on each replica of this worker.
        owners: For each variable, the replica whose part is right.
        first: The first replica of this worker.
    """
    types = dict.fromkeys(of_worker[0].dtype for of_worker in parts.values())

    def share() -> None:
        context = tf.distribute.get_replica_context()
        replica = int(tf.get_static_value(context.replica_id_in_sync_group))
        own = {place: each[replica - first] for place, each in parts.items()}
        for dtype in types:
            alike = {p: part for p, part in own.items() if part.dtype == dtype}
            layout = _Layout(alike, owners, context.num_replicas_in_sync)
            row = layout.row(alike, replica, dtype)
            table = context.all_gather(row[tf.newaxis], axis=0)
            for place, part in alike.items():
                if owners[place] != replica:
                    part.assign(layout.values(table, place, part))

    call_for_each_replica(strategy, share)


class _Layout:
    """Where variables are in a table with a row for each owner."""

    def __init__(
        self,
        parts: Mapping[int, tf.Variable],
        owners: Mapping[int, int],
        replicas: int,
    ) -> None:
        self._owners = owners
        self._begin: dict[int, int] = {}
        self._ends = [0] * replicas
        for place, part in parts.items():
            self._begin[place] = self._ends[owners[place]]
            self._ends[owners[place]] += math.prod(part.shape)

    def row(
        self, parts: Mapping[int, tf.Variable], owner: int, dtype: tf.DType
    ) -> tf.Tensor:
        """Returns what an owner gives."""
        filling = max(self._ends) - self._ends[owner]
        own = [
            tf.reshape(part.read_value(), [-1])
            for place, part in parts.items()
            if self._owners[place] == owner
        ]
        return tf.concat([*own, tf.zeros([filling], dtype)], 0)

    def values(
        self, table: tf.Tensor, place: int, part: tf.Variable
    ) -> tf.Tensor:
        """Returns the values of a variable."""
        begin = self._begin[place]
        flat = table[self._owners[place], begin : begin + math.prod(part.shape)]
        return tf.reshape(flat, part.shape)
