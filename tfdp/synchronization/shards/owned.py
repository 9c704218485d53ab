"""Variables and their owners, of which some are replicas of this process."""

import math
from collections.abc import Sequence

import keras
import tensorflow as tf

from tfdp.synchronization.shards.ownership import balanced, planned_slots
from tfdp.synchronization.shards.shard import Shard


class Owned:
    """Shares variables out, and makes the slots of the owners that are here.

    Args:
        optimizer: The optimizer whose slots they are, not built.
        variables: What it trains.
        strategy: The strategy whose replicas own them.

    Attributes:
        plans: What is known of all slots, in the order of plain Keras.
        owners: The owner of each variable.
        parts: Of each variable, its part on each replica that is here.
        first: The first replica that is here.
        shards: By replica, what those that are here update.
        slots: Each slot, or `None` where another worker has it.
        workers: For each slot, the worker that has it, or gives it.
    """

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        variables: Sequence[keras.Variable],
        strategy: tf.distribute.Strategy,
    ) -> None:
        self.plans = planned_slots(optimizer, variables)
        self.owners = balanced(
            [self._sizes(place, v) for place, v in enumerate(variables)],
            strategy.num_replicas_in_sync,
        )
        self.parts = [
            strategy.experimental_local_results(v.value) for v in variables
        ]
        workers = getattr(strategy, "num_workers", 1)
        here = strategy.num_replicas_in_sync // workers
        self.first = getattr(strategy, "worker_index", 0) * here
        self.shards = {
            replica: Shard(
                optimizer,
                {
                    place: (variables[place], self.parts[place][i])
                    for place in self._of(replica)
                },
                self.parts[0][i].device,
            )
            for i, replica in enumerate(range(self.first, self.first + here))
            if self._of(replica)
        }
        self.slots = [self._slot(i) for i in range(len(self.plans))]
        self.workers = [
            0 if plan.place is None else self.owners[plan.place] // here
            for plan in self.plans
        ]

    @property
    def common(self) -> list[keras.Variable]:
        """Slots of no variable, as they are saved."""
        shards = list(self.shards.values())
        return shards[0].common if shards else []

    def state_bytes(self, replicas: int) -> list[int]:
        """Returns how many bytes of slots each replica holds.

        Args:
            replicas: The number of replicas.
        """
        held = [0] * replicas
        for plan in self.plans:
            if plan.place is not None:
                held[self.owners[plan.place]] += plan.bytes
        return held

    def _of(self, replica: int) -> list[int]:
        return [p for p, owner in enumerate(self.owners) if owner == replica]

    def _slot(self, i: int) -> keras.Variable | None:
        plan = self.plans[i]
        before = sum(each.place == plan.place for each in self.plans[:i])
        if plan.place is None:
            return self.common[before] if self.common else None
        shard = self.shards.get(self.owners[plan.place])
        return shard.slots[plan.place][before] if shard else None

    def _sizes(self, place: int, variable: keras.Variable) -> tuple[int, int]:
        state = sum(plan.bytes for plan in self.plans if plan.place == place)
        size = tf.as_dtype(variable.dtype).size
        return state, math.prod(variable.shape) * size
