"""What one owner updates, and the slots that it keeps for it."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfdp.step import Gradient
from tfdp.synchronization.fused import use_fused_update
from tfdp.synchronization.shards.ownership import built_slots
from tfdp.upstream.keras import keras_optimizers
from tfdp.upstream.tensorflow.tf_replicas import without_strategy


class Shard:
    """A copy of the user's optimizer, for the variables of one owner.

    It lives on the owner's device, outside of any strategy, and updates the
    owner's parts of the variables. It has no count of updates and no rate of
    its own: they are given to it before each update.

    Args:
        optimizer: The optimizer to copy, not built.
        parts: For each place among all variables, the variable and the
            owner's part of it.
        device: The owner's device.

    Attributes:
        device: The owner's device.
        slots: For each place, the slots of that variable.
        common: Slots that belong to no variable.
    """

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        parts: Mapping[int, tuple[keras.Variable, tf.Variable]],
        device: str,
    ) -> None:
        self.device = device
        self._places = list(parts)
        self.slots: dict[int, list[keras.Variable]] = {p: [] for p in parts}
        self.common: list[keras.Variable] = []

        def make() -> None:
            self._optimizer = keras_optimizers.copy_of(optimizer)
            # Of all gradients, which an owner does not have alone.
            self._optimizer.clipnorm = None
            self._optimizer.clipvalue = None
            self._optimizer.global_clipnorm = None
            self._variables = [
                keras_optimizers.stand_in(*pair) for pair in parts.values()
            ]
            for slot, i in built_slots(self._optimizer, self._variables):
                belonging = (
                    self.common if i is None else self.slots[self._places[i]]
                )
                belonging.append(slot)
            use_fused_update(self._optimizer)

        with tf.init_scope():
            without_strategy(make, device)

    @property
    def places(self) -> list[int]:
        """Places of the variables that it updates."""
        return self._places

    def update(
        self,
        gradients: Mapping[int, Gradient],
        iterations: tf.Tensor,
        rate: tf.Tensor | None,
        common: Sequence[tf.Tensor],
    ) -> bool:
        """Updates, where there is no strategy.

        Args:
            gradients: By the place of their variables; clipped.
            iterations: Updates made so far.
            rate: The learning rate, where it is a number.
            common: Values of `common`.

        Returns:
            Whether there was something to update.
        """
        given = [
            (gradients[place], variable)
            for place, variable in zip(
                self._places, self._variables, strict=True
            )
            if place in gradients
        ]
        if not given:
            return False
        self._optimizer.iterations.assign(iterations)
        if rate is not None:
            self._optimizer.learning_rate = rate
        assign_all(self.common, common)
        self._optimizer.apply(*map(list, zip(*given, strict=True)))
        return True

    def finalize(self) -> None:
        """Gives its variables their final values."""
        self._optimizer.finalize_variable_values(self._variables)
        if self._optimizer.use_ema:
            keras_optimizers.overwrite_with_average(self._optimizer)


def assign_all(
    variables: Sequence[keras.Variable], values: Sequence[Any]
) -> None:
    """Assigns values, in order."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
