"""TensorFlow's kernels that go over memory once, where Keras goes often.

The arithmetic is the same. What is read and written is what counts: an update
of SGD with momentum is one pass instead of five.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfdp.gradients import Gradient, weighted

# Below, a condition costs more than what it saves.
_LARGE = 2**16
_DTYPES = (tf.float32, tf.float64)


def add_weighted(
    total: tf.Variable, gradient: Gradient, weight: tf.Tensor
) -> None:
    """Adds a gradient times its weight to a sum, in replica context.

    Args:
        total: The sum.
        gradient: The gradient.
        weight: Scalar; zero silences NaN as well.
    """
    if (
        isinstance(gradient, tf.IndexedSlices)
        or gradient.dtype != total.dtype
        or (gradient.shape.num_elements() or 0) < _LARGE
    ):
        product = tf.convert_to_tensor(weighted(gradient, weight))
        total.assign_add(tf.cast(product, total.dtype))
        return

    def add() -> tf.Tensor:
        tf.raw_ops.ResourceApplyGradientDescent(
            var=total.handle,
            alpha=-tf.cast(weight, total.dtype),
            delta=gradient,
        )
        return tf.constant(0)

    tf.cond(tf.not_equal(weight, 0), add, lambda: tf.constant(0))


def use_fused_update(optimizer: keras.optimizers.Optimizer) -> None:
    """Has an optimizer update by one kernel, if there is one for it.

    There is for `SGD` with momentum, and for `Adam` and `AdamW` without
    AMSGrad, and for dense gradients.

    Args:
        optimizer: The optimizer to change.
    """
    kernel = _kernel_of(optimizer)
    if kernel is None:
        return
    update_by_keras = optimizer.update_step

    def update_step(
        gradient: Gradient, variable: Any, learning_rate: tf.Tensor
    ) -> None:
        value = _value(variable)
        if isinstance(gradient, tf.IndexedSlices) or not (
            gradient.dtype == value.dtype and value.dtype in _DTYPES
        ):
            update_by_keras(gradient, variable, learning_rate)
        else:
            place = optimizer._get_variable_index(variable)
            rate = tf.cast(learning_rate, value.dtype)
            kernel(optimizer, place, value.handle, gradient, rate)

    optimizer.update_step = update_step


def _kernel_of(
    optimizer: keras.optimizers.Optimizer,
) -> Callable[..., None] | None:
    # A subclass may update in its own way.
    if type(optimizer) is keras.optimizers.SGD and optimizer.momentum:
        return _update_of_momentum
    if type(optimizer) in (keras.optimizers.Adam, keras.optimizers.AdamW):
        return None if optimizer.amsgrad else _update_of_adam
    return None


def _update_of_momentum(
    sgd: keras.optimizers.SGD,
    place: int,
    handle: tf.Tensor,
    gradient: tf.Tensor,
    rate: tf.Tensor,
) -> None:
    tf.raw_ops.ResourceApplyKerasMomentum(
        var=handle,
        accum=_value(sgd.momentums[place]).handle,
        lr=rate,
        grad=gradient,
        momentum=tf.cast(sgd.momentum, rate.dtype),
        use_nesterov=sgd.nesterov,
    )


def _update_of_adam(
    adam: keras.optimizers.Adam,
    place: int,
    handle: tf.Tensor,
    gradient: tf.Tensor,
    rate: tf.Tensor,
) -> None:
    step = tf.cast(_value(adam.iterations) + 1, rate.dtype)
    first, second = (
        tf.cast(beta, rate.dtype) for beta in (adam.beta_1, adam.beta_2)
    )
    tf.raw_ops.ResourceApplyAdam(
        var=handle,
        m=_value(adam._momentums[place]).handle,
        v=_value(adam._velocities[place]).handle,
        beta1_power=first**step,
        beta2_power=second**step,
        lr=rate,
        beta1=first,
        beta2=second,
        epsilon=tf.cast(adam.epsilon, rate.dtype),
        grad=gradient,
    )


def _value(variable: Any) -> tf.Variable:
    return variable.value if isinstance(variable, keras.Variable) else variable
