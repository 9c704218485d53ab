"""TensorFlow's kernels that go over memory once, where Keras goes often.

The arithmetic is the same. What is read and written is what counts: an update
of SGD with momentum is one pass instead of five.
"""

from typing import Any

import keras
import tensorflow as tf

from tfdp.step import Gradient, weighted
from tfdp.upstream.keras import keras_optimizers

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

    There is for `SGD` with momentum, and for dense gradients. That of Adam
    rounds the complement of its second decay to four digits, which Keras does
    not.

    Args:
        optimizer: The optimizer to change.
    """
    # A subclass may update in its own way.
    if type(optimizer) is not keras.optimizers.SGD or not optimizer.momentum:
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
            return
        place = keras_optimizers.place_of(optimizer, variable)
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=value.handle,
            accum=_value(optimizer.momentums[place]).handle,
            lr=tf.cast(learning_rate, value.dtype),
            grad=gradient,
            momentum=tf.constant(optimizer.momentum, value.dtype),
            use_nesterov=optimizer.nesterov,
        )

    optimizer.update_step = update_step


def _value(variable: Any) -> tf.Variable:
    return variable.value if isinstance(variable, keras.Variable) else variable
