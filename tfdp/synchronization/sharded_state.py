"""The synchronous update, of which each replica makes and keeps a part."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from tfdp.step import Gradient
from tfdp.strategy import counts_samples, uncounted
from tfdp.synchronization.reduction import all_reduced, sums_at_owners
from tfdp.synchronization.shards import (
    GatheredSlots,
    Shard,
    assign_all,
    balanced,
    planned_slots,
    share_over_workers,
    share_parts,
)
from tfdp.synchronization.synchronization import Reduced
from tfdp.synchronization.synchronous import Synchronous
from tfdp.upstream import keras_optimizers
from tfdp.upstream.tf_replicas import without_strategy

# Whose update of what belongs to no variable is the same with every variable.
_HAVE_COMMON = (keras.optimizers.Nadam,)


@keras.saving.register_keras_serializable(package="tfdp")
class ShardedState(Synchronous):
    """Shares the optimizer's state, and its work, out over the replicas.

    The numbers are those of the default, for every optimizer of Keras's. But
    the slots of a variable (as momenta) live with one replica, its owner,
    which alone updates the variable, and then gives it to the others: stage 1
    of ZeRO (Rajbhandari et al. 2020). Of N replicas each holds an Nth of the
    state, and makes an Nth of the update.

    Variables are whole, and shared out by the bytes of their state, the
    largest first; so that none can hold less than the largest variable needs.
    On one process the gradients travel as before. On several workers the
    weights travel as well, which is half as much again on the wire, for an
    update that is shared.

    What is saved is what plain Keras saves: it loads into any number of
    owners, and without sharding. `callbacks.BackupAndRestore` backs it up. On
    several workers, `callbacks.DataParallel` gathers it on the chief for
    `ModelCheckpoint` at the end of an epoch, and at the end of training; at
    other times call `optimizer.gather_state()` on all workers before the chief
    saves.

    Args:
        gradients: Whether each gradient is summed at its owner alone: stage 2,
            on one process, where it saves the copies of the sums. Defaults to
            `False`.

    Raises:
        TypeError: If `gradients` is no bool.

    Example:

    >>> with tfdp.auto_strategy().scope():
    ...     optimizer = tfdp.DistributedOptimizer(
    ...         keras.optimizers.Adam(1e-3),
    ...         synchronization=tfdp.ShardedState(),
    ...     )
    >>> optimizer.synchronization.gradients
    False
    """

    refuses = {
        "adascale": "AdaScale, whose gain is one for all variables. Use "
        "another optimizer, or leave out `synchronization`.",
        "multi_optimizer": "a MultiOptimizer, whose optimizers count apart. "
        "Use one optimizer, or leave out `synchronization`.",
        "ema_overwrite_frequency": "`ema_overwrite_frequency`, by which owners "
        "would overwrite weights that others hold. Leave it out: `use_ema` "
        "alone overwrites at the end of training.",
        "own_apply": "an optimizer with an `apply` of its own, which may look "
        "at all gradients together. Override `update_step` instead, or leave "
        "out `synchronization`.",
    }

    def __init__(self, *, gradients: bool = False) -> None:
        if not isinstance(gradients, bool):
            raise TypeError(
                "`gradients` must be True or False. Received: "
                f"gradients={gradients!r}."
            )
        self.gradients = gradients

    def of(self, *args: Any, **settings: Any) -> Self:
        """Returns a copy that updates by an optimizer; see the base class."""
        own = super().of(*args, **settings)
        kind = type(own.inner_optimizer)
        if kind.apply is not keras.optimizers.Optimizer.apply:
            self.refuse("own_apply", kind.__name__)
        return own

    def check_strategy(
        self, strategy: tf.distribute.Strategy, *, is_counted: bool
    ) -> None:
        """Checks that replicas can own here.

        Raises:
            RuntimeError: If several replicas are not those of a tfdp strategy.
            ValueError: If gradients are to be summed at their owners, on
                several workers.
        """
        if strategy.num_replicas_in_sync > 1 and not is_counted:
            raise uncounted(strategy, f"synchronization={type(self).__name__}")
        workers = getattr(strategy, "num_workers", 1)
        if self.gradients and workers > 1:
            raise ValueError(
                "Gradients can be summed at their owners within one process: "
                "between workers TensorFlow has no reduction to one of them. "
                f"Received: ShardedState(gradients=True) on {workers} workers. "
                "Use ShardedState(), which shares out the state."
            )

    def build(
        self,
        variables: Sequence[keras.Variable],
        owner: keras.optimizers.Optimizer,
    ) -> None:
        """Creates the slots that replicas of this process own."""
        inner = self.inner_optimizer
        strategy = self._strategy = tf.distribute.get_strategy()
        self._plans = planned_slots(inner, variables)
        self._check_owned()
        self._owners = balanced(
            [self._sizes(place, v) for place, v in enumerate(variables)],
            strategy.num_replicas_in_sync,
        )
        self._parts = [
            strategy.experimental_local_results(v.value) for v in variables
        ]
        here = len(self._parts[0])
        self._first = getattr(strategy, "worker_index", 0) * here
        self._shards = {
            replica: Shard(
                inner,
                {
                    place: (variables[place], self._parts[place][i])
                    for place in self._owned_by(replica)
                },
                self._parts[0][i].device,
            )
            for i, replica in enumerate(range(self._first, self._first + here))
            if self._owned_by(replica)
        }
        self._slots = GatheredSlots(
            self._plans,
            [self._slot_here(i) for i in range(len(self._plans))],
            [
                0 if plan.place is None else self._owners[plan.place] // here
                for plan in self._plans
            ],
            strategy,
            inner.iterations,
        )
        _build_without_slots(inner, variables)
        keras_optimizers.hold(inner, self._slots.variables)
        # For TensorFlow's checkpoints.
        owner.slots_here = [
            slot.value
            for slot in map(self._slot_here, range(len(self._plans)))
            if slot is not None
        ]

    def expect(self, variables: Sequence[keras.Variable]) -> None:
        """Notes where gradients are to be summed.

        Raises:
            RuntimeError: As `check_strategy` does, for an optimizer that was
                loaded where it cannot train.
            ValueError: Likewise.
        """
        strategy = self._strategy
        self.check_strategy(strategy, is_counted=counts_samples(strategy))
        places = [self._place_of(variable) for variable in variables]
        self._expected = [self._owners[place] for place in places]

    def apply(
        self, reduced: Reduced, variables: Sequence[keras.Variable]
    ) -> None:
        """Updates at the owners, and gives what is new to all replicas."""
        places = [self._place_of(variable) for variable in variables]
        tf.distribute.get_replica_context().merge_call(
            lambda strategy, gradients: self._update(
                strategy, dict(zip(places, gradients, strict=True))
            ),
            args=(list(reduced.gradients),),
        )

    @property
    def owned_variables(self) -> list[Any]:
        """The slots, in the order of plain Keras."""
        return self._slots.variables

    def gather(self, strategy: tf.distribute.Strategy) -> list[np.ndarray]:
        """Returns the values of all slots, on the chief; a collective."""
        return self._slots.gather()

    def state_bytes(self, replicas: int) -> list[int]:
        """Returns how many bytes of slots each replica holds."""
        held = [0] * replicas
        for plan in self._plans:
            if plan.place is not None:
                held[self._owners[plan.place]] += plan.bytes
        return held

    def finalize(self, variables: Sequence[keras.Variable]) -> None:
        """Gives the variables their final values at the end of training."""
        inner = self.inner_optimizer
        final = type(inner).finalize_variable_values
        usual = keras.optimizers.Optimizer.finalize_variable_values
        if inner.use_ema or final is not usual:
            with self._strategy.scope():
                tf.function(self._finalize, autograph=False)()

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor, for saving."""
        return {"gradients": self.gradients}

    def _sums(self, gradients: Sequence[Gradient]) -> list[Gradient]:
        if not self.gradients:
            return super()._sums(gradients)
        devices = [self._parts[0][owner].device for owner in self._expected]
        return sums_at_owners(gradients, devices)

    def _sums_with(
        self, gradients: Sequence[Gradient], numbers: Sequence[tf.Tensor]
    ) -> tuple[list[Gradient], list[tf.Tensor]]:
        if not self.gradients:
            return super()._sums_with(gradients, numbers)
        return self._sums(gradients), all_reduced(numbers) if numbers else []

    def _update(
        self,
        strategy: tf.distribute.Strategy,
        gradients: Mapping[int, Gradient],
    ) -> None:
        inner = self.inner_optimizer
        iterations = tf.identity(inner.iterations.value)
        rate = inner.learning_rate
        # Else it is computed, by each owner alike.
        is_number = any(rate is each for each in inner.variables)
        rate = tf.identity(rate.value) if is_number else None
        common = [tf.identity(each.value) for each in self._common]
        local = {
            place: strategy.experimental_local_results(gradient)
            for place, gradient in gradients.items()
        }
        norms = self._norms(local) if self._clips_apart else {}
        updated = [
            shard
            for replica, shard in self._shards.items()
            if without_strategy(
                functools.partial(
                    self._update_shard,
                    shard,
                    self._at(replica, local),
                    [n for r, n in norms.items() if r != replica],
                    (iterations, rate, common),
                ),
                shard.device,
            )
        ]
        self._check_common(updated)
        inner.iterations.assign(iterations + 1)
        self._share(strategy, list(gradients))

    def _update_shard(
        self,
        shard: Shard,
        gradients: Mapping[int, Gradient],
        norms: Sequence[tf.Tensor],
        numbers: tuple[Any, ...],
    ) -> bool:
        if self.gradients:
            # Those of others are not here.
            gradients = {
                place: gradient
                for place, gradient in gradients.items()
                if place in shard.places
            }
        # A norm stands for all the gradients that it is of.
        clipped = keras_optimizers.clipped(
            self.inner_optimizer, [*gradients.values(), *norms]
        )
        return shard.update(
            dict(zip(gradients, clipped, strict=False)), *numbers
        )

    @property
    def _clips_apart(self) -> bool:
        return self.gradients and bool(self.inner_optimizer.global_clipnorm)

    def _norms(self, local: Mapping[int, Any]) -> dict[int, tf.Tensor]:
        """Returns the norms of the gradients at each owner."""
        norms = {}
        for replica, shard in self._shards.items():
            given = self._at(replica, local)
            own = [given[p] for p in shard.places if p in given]
            if own:
                with tf.device(shard.device):
                    norms[replica] = tf.linalg.global_norm(own)
        return norms

    def _at(
        self, replica: int, local: Mapping[int, Any]
    ) -> dict[int, Gradient]:
        # Where all replicas have one tensor, there is one.
        return {
            place: values[replica - self._first] if values[1:] else values[0]
            for place, values in local.items()
        }

    def _share(
        self, strategy: tf.distribute.Strategy, places: Sequence[int]
    ) -> None:
        parts = {place: self._parts[place] for place in places}
        owners = {place: self._owners[place] for place in places}
        if getattr(strategy, "num_workers", 1) == 1:
            share_parts(parts, owners)
        else:
            share_over_workers(strategy, parts, owners, self._first)

    def _finalize(self) -> None:
        for shard in self._shards.values():
            without_strategy(shard.finalize, shard.device)
        self._share(self._strategy, range(len(self._parts)))

    def _check_owned(self) -> None:
        common = [plan for plan in self._plans if plan.place is None]
        if common and not isinstance(self.inner_optimizer, _HAVE_COMMON):
            raise ValueError(
                "Every slot of an optimizer must belong to a variable, whose "
                "owner keeps it. Received: "
                f"{type(self.inner_optimizer).__name__}, whose "
                f"{common[0].path!r} belongs to none. Make it by "
                "`add_variable_from_reference`, or train without ShardedState."
            )

    @property
    def _common(self) -> list[keras.Variable]:
        shards = list(self._shards.values())
        return shards[0].common if shards else []

    def _check_common(self, updated: Sequence[Shard]) -> None:
        """Keeps what belongs to no variable where it is saved from."""
        if not self._common or self._common is updated[0].common:
            return
        assign_all(self._common, [each.value for each in updated[0].common])

    def _slot_here(self, i: int) -> keras.Variable | None:
        plan = self._plans[i]
        before = sum(each.place == plan.place for each in self._plans[:i])
        if plan.place is None:
            return self._common[before] if self._common else None
        shard = self._shards.get(self._owners[plan.place])
        return shard.slots[plan.place][before] if shard else None

    def _owned_by(self, replica: int) -> list[int]:
        return [p for p, owner in enumerate(self._owners) if owner == replica]

    def _place_of(self, variable: keras.Variable) -> int:
        return keras_optimizers.place_of(self.inner_optimizer, variable)

    def _sizes(self, place: int, variable: keras.Variable) -> tuple[int, int]:
        state = sum(plan.bytes for plan in self._plans if plan.place == place)
        own = int(np.prod(variable.shape)) * tf.as_dtype(variable.dtype).size
        return state, own


def _build_without_slots(
    optimizer: keras.optimizers.Optimizer,
    variables: Sequence[keras.Variable],
) -> None:
    averages, optimizer.use_ema = optimizer.use_ema, False
    keras.optimizers.Optimizer.build(optimizer, list(variables))
    optimizer.use_ema = averages
