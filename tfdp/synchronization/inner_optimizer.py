"""The user's optimizer, which makes the update that a way has prepared."""

import functools
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfdp.step import Gradient
from tfdp.upstream.keras import keras_optimizers


def checked_copy(
    optimizer: keras.optimizers.Optimizer, argument: str = "inner_optimizer"
) -> keras.optimizers.Optimizer:
    """Returns a copy that takes gradients which are reduced already.

    Args:
        optimizer: The user's optimizer, not built yet.
        argument: What the user knows it as.

    Raises:
        TypeError: If it is no optimizer, or cannot be copied.
        ValueError: If it accumulates or scales the loss itself, or was used.
    """
    _check(optimizer, argument)
    return keras_optimizers.copy_that_takes_reduced_gradients(optimizer)


def single_optimizers(
    optimizer: keras.optimizers.Optimizer,
) -> list[keras.optimizers.Optimizer]:
    """Returns those that one of several consists of, or it alone."""
    if keras_optimizers.is_multi_optimizer(optimizer):
        return list(optimizer.optimizers)
    return [optimizer]


def update(
    optimizer: keras.optimizers.Optimizer,
    gradients: Sequence[Gradient | None],
    variables: Sequence[keras.Variable],
) -> None:
    """Updates variables by their gradients, in replica context."""
    if keras_optimizers.is_multi_optimizer(optimizer):
        gradients, variables = keras_optimizers.with_missing_gradients(
            optimizer, gradients, variables
        )
    optimizer.apply(gradients, variables)


def observes_moments(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether its update depends on the moments of its gradients."""
    return getattr(optimizer, "observes_moments", False)


def overwrite_when_due(optimizer: keras.optimizers.Optimizer) -> None:
    """Overwrites weights by their averages, when it is time.

    Called in cross-replica context, after each update.
    """
    if optimizer.use_ema and optimizer.ema_overwrite_frequency:
        is_time = tf.equal(
            optimizer.iterations.value % optimizer.ema_overwrite_frequency, 0
        )
        tf.cond(
            is_time,
            functools.partial(_overwrite, optimizer),
            lambda: tf.constant(0),
        )


def _overwrite(optimizer: keras.optimizers.Optimizer) -> tf.Tensor:
    keras_optimizers.overwrite_with_average(optimizer)
    for variable in keras_optimizers.trained_variables(optimizer):
        if variable.constraint is not None:
            variable.assign(variable.constraint(variable))
    return tf.constant(0)


def _check(optimizer: Any, argument: str) -> None:
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise TypeError(
            f"`{argument}` must be a `keras.optimizers.Optimizer`. "
            f"Received: {argument}={optimizer!r}. Pass, for example, "
            "`keras.optimizers.Adam(1e-3)`."
        )
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        raise ValueError(
            f"`{argument}` must not scale the loss itself. Received: "
            f"{argument}={type(optimizer).__name__}. Pass its own inner "
            "optimizer, and `loss_scale=` to DistributedOptimizer."
        )
    for each in single_optimizers(optimizer):
        if each is not optimizer:
            _check(each, argument)
            if observes_moments(each):
                raise ValueError(
                    f"`{type(each).__name__}` must update all variables, "
                    "whose gradients it looks at together. Received: a "
                    "MultiOptimizer that holds one. Pass it alone, or use "
                    "another optimizer in its place."
                )
    if optimizer.gradient_accumulation_steps:
        raise ValueError(
            f"`{argument}` must not accumulate gradients itself. "
            "Received: gradient_accumulation_steps="
            f"{optimizer.gradient_accumulation_steps}. Leave it out, and pass "
            "`accumulation_steps=` to DistributedOptimizer."
        )
    if optimizer.loss_scale_factor is not None:
        raise ValueError(
            f"`{argument}` must not scale the loss itself. Received: "
            f"loss_scale_factor={optimizer.loss_scale_factor}. Leave it out, "
            "and pass `loss_scale=` to DistributedOptimizer."
        )
    if optimizer.built:
        raise ValueError(
            f"`{argument}` must not have been used, because it is copied "
            f"without its state. Received: {type(optimizer).__name__} after "
            f"{int(optimizer.iterations.numpy())} updates. Pass a new one."
        )
