"""Updates that each replica makes alone, and means of weights between them."""

from collections.abc import Sequence
from typing import Any, Literal

import keras
import tensorflow as tf

from tfdp.checks import checked_count
from tfdp.step import Gradient, call_for_each_replica, deduplicated
from tfdp.synchronization.inner_optimizer import update
from tfdp.synchronization.reduction import all_reduced, divided, mean_by
from tfdp.synchronization.synchronization import Reduced, Synchronization
from tfdp.synchronization.variables import (
    Slots,
    VariableSets,
    assign_each,
    replica_local,
)

_BUFFERS = ("maintain", "average", "reset")


@keras.saving.register_keras_serializable(package="tfdp")
class LocalSGD(Synchronization):
    """Replicas update alone, and take the mean of their weights now and then.

    Local SGD (Stich 2019, Algorithm 1), of any optimizer: each replica makes
    `sync_every` updates by its own gradients, then all get the mean of their
    weights, weighted by the samples of the round. That is `1 / sync_every` of
    the communication, and *not* the numbers of one device: see
    docs/ideas/local_updates.md for the price.

    With `callbacks.DataParallel()` a round also ends before validation, at the
    end of an epoch and of the training, so that whoever looks at the weights
    sees one model. A stop, a backup or a vote waits for the end of a round.
    A saved optimizer holds the slots (as momentum) of the first replica.

    Everything of the inner optimizer acts on each replica's own gradient:
    clipping, decay, and constraints before the mean is taken. Its moving
    averages of weights are averaged with them. A replica that is given no
    samples updates with a gradient of zero, and weighs nothing in the mean.

    Args:
        sync_every: Updates of a replica between two means; an integer of at
            least 1. With 1 and SGD without momentum, this is synchronous
            training.
        start: Updates to make synchronously first, as in post-local SGD (Lin
            et al. 2020, Section 3). Defaults to 0.
        buffers: What becomes of the replicas' slots when weights are averaged
            (SlowMo, Wang et al. 2020, Section 2): `"maintain"`, each its own;
            `"average"`, which communicates them too; or `"reset"`, to what
            they began with. Defaults to `"maintain"`.

    Raises:
        TypeError: If a number is no integer.
        ValueError: If `sync_every` is below 1, `start` below 0, or `buffers`
            none of the above.

    Example:

    >>> with tfdp.auto_strategy().scope():
    ...     optimizer = tfdp.DistributedOptimizer(
    ...         keras.optimizers.SGD(0.1, momentum=0.9),
    ...         synchronization=tfdp.LocalSGD(sync_every=8, start=500),
    ...     )
    >>> optimizer.synchronization.sync_every
    8
    """

    weighs = True
    keeps_up = False
    refuses = {
        "loss_scale": "a loss scale, of which replicas would judge apart. Use "
        "loss_scale=None and the dtype policy 'mixed_bfloat16'.",
        "compression": "`compression`, which is of gradients: none are sent. "
        "Leave it out.",
        "adascale": "AdaScale, which compares the replicas' gradients in each "
        "update. Use another optimizer, or leave out `synchronization`.",
        "noise_scale": "a NoiseScaleMonitor, which compares the replicas' "
        "gradients in each update. Leave the monitor out.",
        "ema_overwrite_frequency": "`ema_overwrite_frequency`, by which "
        "replicas would overwrite weights in the middle of a round. Leave it "
        "out: `use_ema` alone overwrites at the end of training.",
        "sums": "losses that are added over replicas, since their gradients "
        "never meet. Use reduction='sum_over_batch_size'.",
        "batch_losses": "a loss of the whole batch, whose gradients must "
        "meet. Use a loss that is a mean over samples.",
        "mixed_gradients": "layers through which gradients reach other "
        "replicas, whose weights are others here. Use "
        "BatchNormalization(synchronized=False).",
    }

    def __init__(
        self,
        sync_every: int,
        *,
        start: int = 0,
        buffers: Literal["maintain", "average", "reset"] = "maintain",
    ) -> None:
        self.sync_every = checked_count("sync_every", sync_every)
        self.start = checked_count("start", start, minimum=0)
        if buffers not in _BUFFERS:
            raise ValueError(
                "`buffers` must be 'maintain', 'average' or 'reset'. "
                f"Received: buffers={buffers!r}."
            )
        self.buffers = buffers

    def build(
        self,
        variables: Sequence[keras.Variable],
        owner: keras.optimizers.Optimizer,
    ) -> None:
        """Creates the slots of the inner optimizer, and counts of a round."""
        super().build(variables, owner)
        self._slots = [Slots(each) for each in self.optimizers]
        self._sets = VariableSets(owner, variables)
        self._round_step = owner.add_variable(
            (), "zeros", "int64", "only_first_replica", name="round_step"
        )
        # Whose round is under way.
        self._round_of = owner.add_variable(
            (), "zeros", "int64", "only_first_replica", name="round_of"
        )
        # The weight behind this replica's updates since the last mean.
        self._seen = replica_local((), tf.float32)
        self._complete = tf.function(self._end_round, autograph=False)

    def apply(
        self, reduced: Reduced, variables: Sequence[keras.Variable]
    ) -> None:
        """Makes this replica's update, and ends a round when it is time."""
        key = self._sets.add(variables)
        tf.distribute.get_replica_context().merge_call(
            lambda strategy, g, w: self._update(strategy, g, w, key),
            args=(reduced.gradients, reduced.weight),
        )

    @property
    def replica_variables(self) -> list[keras.Variable]:
        """The slots of the inner optimizer."""
        return [
            slot
            for slots in self._slots
            for slot in (*slots.averages, *slots.others)
        ]

    @property
    def is_under_way(self) -> bool:
        """Whether replicas have updated alone since the last mean."""
        return bool(self._round_step.numpy())

    @property
    def is_complete(self) -> bool:
        """Whether replicas have the same weights."""
        return not self.is_under_way

    def complete(self, strategy: tf.distribute.Strategy) -> None:
        """Ends a round before its time."""
        key = int(self._round_of.numpy())
        with strategy.scope():
            self._complete(strategy, key)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor, for saving."""
        return {
            "sync_every": self.sync_every,
            "start": self.start,
            "buffers": self.buffers,
        }

    def _update(
        self,
        strategy: tf.distribute.Strategy,
        gradients: Sequence[Gradient],
        weight: tf.Tensor,
        key: int,
    ) -> None:
        inner, variables = self.inner_optimizer, self._sets.of(key)

        def apply_own(own: Sequence[Gradient], weight: tf.Tensor) -> None:
            self._seen.assign_add(weight)
            means = [deduplicated(divided(g, weight)) for g in own]
            update(inner, means, variables)

        def apply_mean(own: Sequence[Gradient], weight: tf.Tensor) -> None:
            *sums, count = all_reduced([*own, weight])
            self.met(sums)
            means = [deduplicated(divided(g, count)) for g in sums]
            update(inner, means, variables)

        def begin() -> tf.Tensor:
            self._round_of.assign(key)
            self._set_out(strategy, variables)
            return tf.constant(0)

        def alone() -> tf.Tensor:
            tf.cond(
                self._round_step.value > 0,
                lambda: self._sets.check_same(self._round_of.value, key),
                begin,
            )
            call_for_each_replica(strategy, apply_own, (gradients, weight))
            self._round_step.assign(self._round_step.value + 1)
            return tf.cond(
                self._round_step.value >= self.sync_every,
                lambda: self._end_round(strategy, key, is_step=True),
                lambda: tf.constant(0),
            )

        def together() -> tf.Tensor:
            call_for_each_replica(strategy, apply_mean, (gradients, weight))
            return tf.constant(0)

        if self.start:
            # Of several optimizers one may have nothing to update.
            counts = [each.iterations.value for each in self.optimizers]
            is_early = tf.reduce_max(tf.stack(counts)) < self.start
            tf.cond(is_early, together, alone)
        else:
            alone()

    def _end_round(
        self,
        strategy: tf.distribute.Strategy,
        key: int,
        *,
        is_step: bool = False,
    ) -> tf.Tensor:
        averaged = [
            *self._sets.of(key),
            *(each for slots in self._slots for each in slots.averages),
        ]
        if self.buffers == "average":
            averaged += [e for slots in self._slots for e in slots.floating]
        if self.buffers == "reset":
            for slots in self._slots:
                slots.reset(strategy)

        def meet() -> list[tf.Tensor]:
            own = [each.value for each in averaged]
            means = mean_by(self._seen.read_value(), own)
            if is_step:
                self.met(means)
            return means

        means = call_for_each_replica(strategy, meet)
        self._take_over(strategy, averaged, means)
        call_for_each_replica(strategy, lambda: self._seen.assign(0.0))
        self._round_step.assign(0)
        return tf.constant(0)

    def _take_over(
        self,
        strategy: tf.distribute.Strategy,
        averaged: Sequence[keras.Variable],
        means: Sequence[Any],
    ) -> None:
        for variable, mean in zip(averaged, means, strict=True):
            assign_each(strategy, variable, mean)

    def _set_out(
        self,
        strategy: tf.distribute.Strategy,
        variables: Sequence[keras.Variable],
    ) -> None:
        """Notes where replicas begin to part, in cross-replica context."""
