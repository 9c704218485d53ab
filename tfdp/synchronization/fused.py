"""TensorFlow's kernels that go over memory once, where Keras goes often.

The arithmetic is the same. What is read and written is what counts: an update
of SGD with momentum is one pass instead of five.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfdp.step import Gradient, weighted
from tfdp.upstream.keras import keras_adam, keras_optimizers

# Below, a condition costs more than what it saves.
_LARGE = 2**16
_DTYPES = (tf.float32, tf.float64)


class OncePerApply:
    """Keeps what the update of one variable has computed for the others.

    Outside of `apply` nothing is kept.

    Args:
        optimizer: The optimizer, whose `apply` is watched.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer) -> None:
        self._kept: dict[Any, tf.Tensor] | None = None
        apply_by_keras = optimizer.apply

        def apply(*args: Any, **kwargs: Any) -> Any:
            self._kept = {}
            try:
                return apply_by_keras(*args, **kwargs)
            finally:
                self._kept = None

        optimizer.apply = apply

    def computed(
        self, name: str, variable: tf.Variable, compute: Callable[[], tf.Tensor]
    ) -> tf.Tensor:
        """Returns a tensor for the device, the dtype and the graph of a step.

        Args:
            name: Tells one such tensor from another.
            variable: The variable that is updated.
            compute: Computes the tensor, where it is not there yet.
        """
        if self._kept is None:
            return compute()
        # A branch of a condition is a graph of its own.
        graph = id(tf.compat.v1.get_default_graph())
        key = name, variable.device, variable.dtype, graph
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]


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
    """Has an optimizer update by fewer kernels, if there are some for it.

    There are for `SGD`, `Adam` and `AdamW`, and for dense gradients. Of many
    variables each costs as many starts of kernels as its update has.

    Args:
        optimizer: The optimizer to change.
    """
    # A subclass may update in its own way.
    step = _STEPS.get(type(optimizer))
    if step is None or getattr(optimizer, "amsgrad", False):
        return
    update_by_keras = optimizer.update_step
    once = OncePerApply(optimizer)

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
        step(optimizer, once, gradient, value, learning_rate, place)

    optimizer.update_step = update_step


def _sgd(
    optimizer: Any,
    once: OncePerApply,
    gradient: tf.Tensor,
    value: tf.Variable,
    learning_rate: Any,
    place: int,
) -> None:
    rate = once.computed(
        "rate", value, lambda: tf.cast(learning_rate, value.dtype)
    )
    if not optimizer.momentum:
        tf.raw_ops.ResourceApplyGradientDescent(
            var=value.handle, alpha=rate, delta=gradient
        )
        return
    tf.raw_ops.ResourceApplyKerasMomentum(
        var=value.handle,
        accum=_value(optimizer.momentums[place]).handle,
        lr=rate,
        grad=gradient,
        momentum=tf.constant(optimizer.momentum, value.dtype),
        use_nesterov=optimizer.nesterov,
    )


def _adam(
    optimizer: Any,
    once: OncePerApply,
    gradient: tf.Tensor,
    value: tf.Variable,
    learning_rate: Any,
    place: int,
) -> None:
    """Updates as Keras does.

    TensorFlow's one kernel for it rounds the complement of the second decay
    to four digits.
    """

    def rate() -> tf.Tensor:
        update = tf.cast(optimizer.iterations.value, value.dtype) + 1
        first, second = (
            tf.pow(tf.constant(beta, value.dtype), update)
            for beta in (optimizer.beta_1, optimizer.beta_2)
        )
        whole = tf.cast(learning_rate, value.dtype)
        return whole * tf.sqrt(1 - second) / (1 - first)

    def move(average: tf.Variable, new: tf.Tensor, beta: float) -> tf.Tensor:
        tf.raw_ops.ResourceApplyGradientDescent(
            var=average.handle,
            alpha=tf.constant(beta - 1, value.dtype),
            delta=new - average,
        )
        return average.read_value()

    alpha = once.computed("alpha", value, rate)
    first, second = map(_value, keras_adam.moments_at(optimizer, place))
    mean = move(first, gradient, optimizer.beta_1)
    square = move(second, tf.square(gradient), optimizer.beta_2)
    tf.raw_ops.ResourceApplyGradientDescent(
        var=value.handle,
        alpha=tf.ones((), value.dtype),
        delta=mean * alpha / (tf.sqrt(square) + optimizer.epsilon),
    )


_STEPS: dict[type, Callable[..., None]] = {
    keras.optimizers.SGD: _sgd,
    keras.optimizers.Adam: _adam,
    keras.optimizers.AdamW: _adam,
}


def _value(variable: Any) -> tf.Variable:
    return variable.value if isinstance(variable, keras.Variable) else variable
