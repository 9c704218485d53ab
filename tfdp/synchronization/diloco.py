"""Rounds of local updates, as gradients of a slower optimizer."""

from collections.abc import Sequence
from typing import Any, Self

import keras
import tensorflow as tf

from tfdp.step import call_for_each_replica
from tfdp.synchronization.inner_optimizer import (
    checked_copy,
    observes_moments,
    update,
)
from tfdp.synchronization.local_updates import LocalSGD
from tfdp.synchronization.variables import assign_each


@keras.saving.register_keras_serializable(package="tfdp")
class DiLoCo(LocalSGD):
    """Local updates whose mean is the gradient of an outer optimizer.

    DiLoCo (Douillard et al. 2023, Algorithm 1): after `sync_every` updates
    that replicas make alone, as with `LocalSGD`, the weights that the round
    began with minus the mean of those it ended with are a gradient, by which
    `outer_optimizer` updates what the round began with. The paper's inner
    optimizer is AdamW, its outer one SGD with a rate of 0.7 and a Nesterov
    momentum of 0.9.

    A round that is cut short, as by the end of an epoch, is one all the same.

    In an `AsynchronousStrategy` workers do not wait for each other (Liu et al.
    2024): what each one's round has moved is a gradient of its own, and the
    server updates by it. There `tfdp.DelayedNesterov` is made for momentum;
    `start` and `buffers="average"` are refused, as are averages of weights.

    Args:
        outer_optimizer: A `keras.optimizers.Optimizer` that was not used yet.
            It is copied.
        sync_every: Updates of a replica in a round; an integer of at least 1.
        start: Updates to make synchronously first. Defaults to 0.
        buffers: What becomes of the inner slots at the end of a round, as for
            `LocalSGD`. Defaults to `"maintain"`, as in the paper.

    Raises:
        TypeError: If `outer_optimizer` is no optimizer, or a number no
            integer.
        ValueError: If `outer_optimizer` was used, accumulates, scales the loss,
            averages weights or looks at replicas' gradients (as `AdaScale`),
            or if a number is too small.

    Example:

    >>> outer = keras.optimizers.SGD(0.7, momentum=0.9, nesterov=True)
    >>> with tfdp.auto_strategy().scope():
    ...     optimizer = tfdp.DistributedOptimizer(
    ...         keras.optimizers.AdamW(4e-4),
    ...         synchronization=tfdp.DiLoCo(outer, sync_every=64),
    ...     )
    >>> optimizer.synchronization.sync_every
    64
    """

    def __init__(
        self,
        outer_optimizer: keras.optimizers.Optimizer,
        sync_every: int,
        *,
        start: int = 0,
        buffers: Any = "maintain",
    ) -> None:
        super().__init__(sync_every, start=start, buffers=buffers)
        # A copy, so that this one may be used elsewhere meanwhile.
        self.outer_optimizer = checked_copy(outer_optimizer, "outer_optimizer")
        if observes_moments(outer_optimizer):
            raise ValueError(
                "`outer_optimizer` must not look at the gradients of replicas: "
                "it has one, of a whole round. Received: outer_optimizer="
                f"{type(outer_optimizer).__name__}. Use "
                "keras.optimizers.SGD(0.7, momentum=0.9, nesterov=True)."
            )
        if outer_optimizer.use_ema:
            raise ValueError(
                "`outer_optimizer` must not average weights. Received: "
                "use_ema=True. Give it to the inner optimizer."
            )

    def of(self, *args: Any, **settings: Any) -> Self:
        """Returns a copy that updates by an optimizer; see the base class."""
        own = super().of(*args, **settings)
        own.outer_optimizer = checked_copy(self.outer_optimizer)
        return own

    def build(
        self,
        variables: Sequence[keras.Variable],
        owner: keras.optimizers.Optimizer,
    ) -> None:
        """Creates the slots of both optimizers, and what rounds begin with."""
        super().build(variables, owner)
        self.outer_optimizer.build(variables)
        self._anchors = {
            id(each): owner.add_variable_from_reference(each, name="anchor")
            for each in variables
        }
        # For TensorFlow's checkpoints.
        owner.outer_variables = [v.value for v in self.variables]

    @property
    def variables(self) -> list[keras.Variable]:
        """The state of the outer optimizer."""
        return list(self.outer_optimizer.variables)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor, for saving."""
        outer = keras.saving.serialize_keras_object(self.outer_optimizer)
        return {"outer_optimizer": outer, **super().get_config()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Creates one from what `get_config` has returned."""
        config = dict(config)
        outer = keras.saving.deserialize_keras_object(
            config.pop("outer_optimizer")
        )
        return cls(outer, **config)

    def _take_over(
        self,
        strategy: tf.distribute.Strategy,
        averaged: Sequence[keras.Variable],
        means: Sequence[Any],
    ) -> None:
        anchored = {
            id(variable): (variable, mean)
            for variable, mean in zip(averaged, means, strict=True)
            if id(variable) in self._anchors
        }
        for key, (variable, _) in anchored.items():
            assign_each(strategy, variable, self._anchors[key].value)
        others = [
            (variable, mean)
            for variable, mean in zip(averaged, means, strict=True)
            if id(variable) not in anchored
        ]
        for variable, mean in others:
            assign_each(strategy, variable, mean)

        def move_on(*means: tf.Tensor) -> None:
            moved = [
                self._anchors[key].value - tf.cast(mean, variable.dtype)
                for (key, (variable, _)), mean in zip(
                    anchored.items(), means, strict=True
                )
            ]
            update(
                self.outer_optimizer,
                moved,
                [variable for variable, _ in anchored.values()],
            )

        call_for_each_replica(
            strategy, move_on, tuple(mean for _, mean in anchored.values())
        )

    def _set_out(
        self,
        strategy: tf.distribute.Strategy,
        variables: Sequence[keras.Variable],
    ) -> None:
        for each in variables:
            assign_each(strategy, self._anchors[id(each)], each.value)
