"""Momentum for updates that come one by one, and late."""

from typing import Any

import keras
from keras import ops

from tfdp.checks import checked_count, checked_number
from tfdp.upstream.keras import keras_optimizers


@keras.saving.register_keras_serializable(package="tfdp")
class DelayedNesterov(keras.optimizers.Optimizer):
    """Nesterov's momentum of `buffer_size` gradients at a time.

    Delayed Nesterov (Liu et al. 2024, Section 5, Algorithm 3), an outer
    optimizer of `tfdp.DiLoCo` where workers do not wait for each other. There
    what workers have found beside each other comes in one by one, and is late:
    momentum takes it for steps that follow each other, and goes too far.
    Here each gradient moves the weights by its part, and momentum moves once
    for N of them:

    ```python
    buffer += gradient
    share = activation
    if updates % N == 0:  # this one included
        velocity = momentum * velocity + buffer / N
        buffer = 0
        share = 1 - activation * N + activation
    weight -= learning_rate * (share * momentum * velocity + gradient / N)
    ```

    N gradients together then do what SGD with Nesterov momentum does with
    their mean; where N is 1, it is that. So one takes the rate that suits
    workers which do wait, with N workers.

    Args:
        learning_rate: A number, a schedule, or a function without arguments.
            Defaults to 0.7, DiLoCo's.
        momentum: Part of the velocity that stays; a float in `[0, 1]`.
            Defaults to 0.9.
        buffer_size: N, as a rule the number of workers; an integer of at
            least 1.
        activation: Share of the momentum's step that is made with each of the
            gradients between, a float in `[0, 1 / N]`. Defaults to 0.
        options: Further arguments of `keras.optimizers.Optimizer`, by name.

    Raises:
        TypeError: If a number is none.
        ValueError: If a number is out of its range.

    Example:

    >>> outer = tfdp.DelayedNesterov(0.7, momentum=0.9, buffer_size=4)
    >>> tfdp.DiLoCo(outer, sync_every=50).outer_optimizer.buffer_size
    4

    Reference:
        https://arxiv.org/abs/2401.09135
    """

    def __init__(
        self,
        learning_rate: Any = 0.7,
        momentum: float = 0.9,
        *,
        buffer_size: int,
        activation: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        self.momentum = checked_number(
            "momentum", momentum, zero_allowed=True, maximum=1.0
        )
        self.buffer_size = checked_count("buffer_size", buffer_size)
        self.activation = checked_number(
            "activation",
            activation,
            zero_allowed=True,
            maximum=1.0 / self.buffer_size,
        )

    def build(self, variables: list[keras.Variable]) -> None:
        """Creates a velocity and a sum of gradients for each variable.

        Args:
            variables: What is to be updated.
        """
        if self.built:
            return
        super().build(variables)
        self.velocities, self.sums = (
            [self.add_variable_from_reference(v, name=name) for v in variables]
            for name in ("velocity", "sum")
        )

    def update_step(
        self, gradient: Any, variable: keras.Variable, learning_rate: Any
    ) -> None:
        """Moves one variable.

        Args:
            gradient: Gradient of the variable.
            variable: What to move.
            learning_rate: Scalar; the rate of this update.
        """
        place = keras_optimizers.place_of(self, variable)
        velocity, total = self.velocities[place], self.sums[place]
        size, share = self.buffer_size, self.activation
        # Constants take the dtype of the variable.
        rate = ops.cast(learning_rate, variable.dtype)
        gradient = ops.cast(gradient, variable.dtype)
        is_full = ops.equal((self.iterations + 1) % size, 0)
        self.assign_add(total, gradient)
        moved = ops.add(
            ops.multiply(velocity, self.momentum), ops.divide(total, size)
        )
        self.assign(velocity, ops.where(is_full, moved, velocity))
        self.assign(total, ops.where(is_full, ops.zeros_like(total), total))
        share = ops.cast(
            ops.where(is_full, 1 - share * size + share, share), variable.dtype
        )
        step = ops.add(
            ops.multiply(velocity, share * self.momentum),
            ops.divide(gradient, size),
        )
        self.assign_sub(variable, ops.multiply(step, rate))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor, for saving."""
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "buffer_size": self.buffer_size,
            "activation": self.activation,
        }
