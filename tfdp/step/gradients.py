"""Operations on one gradient, whether a tensor or slices of one."""

from collections.abc import Callable
from typing import TypeAlias

import tensorflow as tf

Gradient: TypeAlias = tf.Tensor | tf.IndexedSlices


def on_values(
    operation: Callable[[tf.Tensor], tf.Tensor], gradient: Gradient
) -> Gradient:
    """Applies an element-wise operation that keeps zeros to a gradient."""
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(
            operation(gradient.values), gradient.indices, gradient.dense_shape
        )
    return operation(gradient)


def at_least_float32(gradient: Gradient) -> Gradient:
    """Widens half-precision gradients, so that sums of them are exact."""
    if gradient.dtype in (tf.float16, tf.bfloat16):
        return on_values(lambda v: tf.cast(v, tf.float32), gradient)
    return gradient


def weighted(gradient: Gradient, weight: tf.Tensor) -> Gradient:
    """Multiplies by a scalar; a weight of zero silences NaN as well.

    The gradient of a replica without samples may be anything.
    """
    return on_values(
        lambda v: tf.math.multiply_no_nan(v, tf.cast(weight, v.dtype)),
        at_least_float32(gradient),
    )


def deduplicated(gradient: Gradient) -> Gradient:
    """Adds up slices of the same row.

    An optimizer that squares the gradient would else square the parts of a
    row's gradient instead of their sum, and a norm would not be the norm.
    """
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    rows, places = tf.unique(gradient.indices)
    return tf.IndexedSlices(
        tf.math.unsorted_segment_sum(
            gradient.values, places, tf.shape(rows)[0]
        ),
        rows,
        gradient.dense_shape,
    )


def is_finite(gradient: Gradient) -> tf.Tensor:
    """Whether every value is neither infinite nor NaN; a scalar bool."""
    values = (
        gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient
    )
    return tf.reduce_all(tf.math.is_finite(values))
