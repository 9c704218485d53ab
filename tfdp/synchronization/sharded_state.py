"""The synchronous update, of which each replica makes and keeps a part."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from tfdp.step import Gradient
from tfdp.strategy import counts_samples, uncounted
from tfdp.synchronization.shards import (
    GatheredSlots,
    NotInCheckpoints,
    Owned,
    Shard,
    assign_all,
    share_over_workers,
    share_parts,
)
from tfdp.synchronization.synchronization import Reduced
from tfdp.synchronization.synchronous import Synchronous
from tfdp.synchronization.travel import Packed
from tfdp.upstream.keras import keras_optimizers
from tfdp.upstream.tensorflow.tf_replicas import without_strategy

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
        "swap_ema_weights": "SwapEMAWeights, since averages lie with their "
        "owners. Leave it out: `use_ema` alone overwrites weights at the end "
        "of training.",
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
        self._owned = owned = Owned(inner, variables, strategy)
        self._check_owned()
        self._slots = GatheredSlots(
            owned.plans, owned.slots, owned.workers, strategy, inner.iterations
        )
        _build_without_slots(inner, variables)
        keras_optimizers.hold(inner, self._slots.variables)
        # For TensorFlow's checkpoints.
        owner.slots_here = (
            [slot.value for slot in self.slots_here]
            if getattr(strategy, "num_workers", 1) == 1
            else NotInCheckpoints()
        )

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
        self._expected = [self._owned.owners[place] for place in places]

    def apply(
        self, reduced: Reduced, variables: Sequence[keras.Variable]
    ) -> None:
        """Updates at the owners, and gives what is new to all replicas.

        Raises:
            ValueError: If what an optimizer keeps for all variables would not
                go on with every owner.
        """
        places = [self._place_of(variable) for variable in variables]
        self._check_all_go_on(places)
        tf.distribute.get_replica_context().merge_call(
            lambda strategy, gradients: self._update(
                strategy, dict(zip(places, gradients, strict=True))
            ),
            args=(list(reduced.gradients),),
        )

    @property
    def slots_here(self) -> list[keras.Variable]:
        """The slots that replicas of this process own."""
        return [slot for slot in self._owned.slots if slot is not None]

    @property
    def owned_variables(self) -> list[Any]:
        """The slots, in the order of plain Keras."""
        return self._slots.variables

    def gather(self, strategy: tf.distribute.Strategy) -> list[np.ndarray]:
        """Returns the values of all slots, on the chief; a collective."""
        return self._slots.gather()

    def state_bytes(self, replicas: int) -> list[int]:
        """Returns how many bytes of slots each replica holds."""
        return self._owned.state_bytes(replicas)

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

    def packed(self, gradients: Sequence[Gradient]) -> Packed:
        """Puts together what replicas add up and divide as one.

        Args:
            gradients: This replica's.

        Returns:
            The packs; of one gradient each in stage 2, as owners differ.
        """
        whole = super().packed
        return Packed(gradients, 0) if self.gradients else whole(gradients)

    def owners(self, gradients: Sequence[Gradient]) -> Sequence[str] | None:
        """Returns the devices of the owners, in stage 2.

        Args:
            gradients: This replica's.
        """
        if not self.gradients:
            return super().owners(gradients)
        parts = self._owned.parts[0]
        return [parts[owner].device for owner in self._expected]

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
        common = [tf.identity(each.value) for each in self._owned.common]
        local = {
            place: strategy.experimental_local_results(gradient)
            for place, gradient in gradients.items()
        }
        norms = self._norms(local) if self._clips_apart else {}
        updated = [
            shard
            for replica, shard in self._owned.shards.items()
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
        self._keep_common(updated)
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
        for replica, shard in self._owned.shards.items():
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
            place: values[replica - self._owned.first]
            if values[1:]
            else values[0]
            for place, values in local.items()
        }

    def _share(
        self, strategy: tf.distribute.Strategy, places: Sequence[int]
    ) -> None:
        parts = {place: self._owned.parts[place] for place in places}
        owners = {place: self._owned.owners[place] for place in places}
        if getattr(strategy, "num_workers", 1) == 1:
            share_parts(parts, owners)
        else:
            share_over_workers(strategy, parts, owners, self._owned.first)

    def _finalize(self) -> None:
        for shard in self._owned.shards.values():
            without_strategy(shard.finalize, shard.device)
        self._share(self._strategy, range(len(self._owned.parts)))

    def _check_owned(self) -> None:
        common = [plan for plan in self._owned.plans if plan.place is None]
        if common and not isinstance(self.inner_optimizer, _HAVE_COMMON):
            raise ValueError(
                "Every slot of an optimizer must belong to a variable, whose "
                "owner keeps it. Received: "
                f"{type(self.inner_optimizer).__name__}, whose "
                f"{common[0].path!r} belongs to none. Make it by "
                "`add_variable_from_reference`, or train without ShardedState."
            )

    def _check_all_go_on(self, places: Sequence[int]) -> None:
        common = [plan for plan in self._owned.plans if plan.place is None]
        idle = set(self._owned.owners) - {
            self._owned.owners[place] for place in places
        }
        apart = getattr(self._strategy, "num_workers", 1) > 1
        inner = self.inner_optimizer
        if idle and (inner.use_ema or (common and apart)):
            raise ValueError(
                "Each owner must have a gradient in every update, where an "
                "optimizer averages all weights, or on several workers keeps "
                "a number for all variables. Received: "
                f"{type(inner).__name__}, use_ema={inner.use_ema}, and none "
                f"for what replica {min(idle)} owns. Use one optimizer for "
                "each set of variables, or train without ShardedState."
            )

    def _keep_common(self, updated: Sequence[Shard]) -> None:
        """Keeps what belongs to no variable where it is saved from."""
        if not self._owned.common or self._owned.common is updated[0].common:
            return
        assign_all(
            self._owned.common, [each.value for each in updated[0].common]
        )

    def _place_of(self, variable: keras.Variable) -> int:
        return keras_optimizers.place_of(self.inner_optimizer, variable)


def _build_without_slots(
    optimizer: keras.optimizers.Optimizer,
    variables: Sequence[keras.Variable],
) -> None:
    averages, optimizer.use_ema = optimizer.use_ema, False
    keras.optimizers.Optimizer.build(optimizer, list(variables))
    optimizer.use_ema = averages
