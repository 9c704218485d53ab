"""Momentum that a change of the learning rate does not distort."""

from typing import Any

import keras
from keras import ops

from tfdp.checks import checked_number
from tfdp.large_batch.learning_rate import checked_rate
from tfdp.upstream.keras import keras_optimizers


@keras.saving.register_keras_serializable(package="tfdp")
class MomentumCorrectedSGD(keras.optimizers.SGD):
    """SGD whose velocity gathers gradients, and not steps.

    Keras multiplies a gradient by the learning rate before it adds it to the
    velocity. While the rate rises, as in a warm-up, old gradients then count
    for less than they should, and after it falls to a tenth, for ten times as
    much. Here the rate of an update multiplies the whole velocity:

    ```python
    velocity = momentum * velocity + gradient
    weight = weight - learning_rate * velocity
    ```

    where with `nesterov=True` the step is
    `learning_rate * (gradient + momentum * velocity)`. As long as the rate is
    constant, the weights are those of `keras.optimizers.SGD`, up to rounding.

    Velocities are saved in other units than those of Keras's SGD.

    Args:
        learning_rate: A number, a schedule, or a function without arguments.
            Defaults to 0.01.
        momentum: Part of the velocity that stays from update to update, a
            float in `[0, 1]`. Defaults to 0.
        nesterov: Whether to look ahead by one step. Defaults to `False`.
        options: Further arguments of `keras.optimizers.SGD`, by name.

    Example:

    >>> optimizer = tfdp.MomentumCorrectedSGD(0.1, momentum=0.9)
    >>> optimizer.momentum
    0.9

    Reference:
        Goyal et al., 2017, section 3, remark 2: equation 9 instead of 10.
        https://arxiv.org/abs/1706.02677
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        **options: Any,
    ) -> None:
        learning_rate = checked_rate(learning_rate)
        momentum = checked_number(
            "momentum", momentum, zero_allowed=True, maximum=1.0
        )
        super().__init__(learning_rate, momentum, nesterov, **options)

    def update_step(
        self, gradient: Any, variable: keras.Variable, learning_rate: Any
    ) -> None:
        """Moves one variable.

        Args:
            gradient: Gradient of the variable.
            variable: What to move.
            learning_rate: Scalar; the rate of this update.
        """
        if not self.momentum:
            super().update_step(gradient, variable, learning_rate)
            return
        rate = ops.cast(learning_rate, variable.dtype)
        momentum = ops.cast(self.momentum, variable.dtype)
        gradient = ops.cast(gradient, variable.dtype)
        velocity = self.momentums[keras_optimizers.place_of(self, variable)]
        self.assign(
            velocity, ops.add(ops.multiply(velocity, momentum), gradient)
        )
        direction = velocity
        if self.nesterov:
            direction = ops.add(ops.multiply(velocity, momentum), gradient)
        self.assign_sub(variable, ops.multiply(direction, rate))
