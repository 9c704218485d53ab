"""What returns one number for a batch, instead of one for each sample."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def is_scalar(function: Callable[..., Any], dtype: Any, output: Any) -> bool:
    """Whether a function of labels and predictions returns one number.

    Args:
        function: What takes labels and predictions.
        dtype: Their dtype.
        output: The symbolic output that predictions are of; `None` where it
            is not known, for any.
    """
    known = [(None, 2), (None, 3, 2), (None, 4, 4, 3)]
    shapes = known if output is None else [output.shape]
    found = [_returns_scalar(function, dtype, shape) for shape in shapes]
    told = [each for each in found if each is not None]
    return bool(told) and all(told)


def _returns_scalar(
    function: Callable[..., Any], dtype: Any, output: Any
) -> bool | None:
    predictions = tf.TensorSpec(output, dtype)
    # Labels have the shape of predictions, or are class numbers.
    for shape in (output, output[:-1]):
        labels = tf.TensorSpec(shape, dtype)
        traced = tf.function(function, autograph=False)
        try:
            concrete = traced.get_concrete_function(labels, predictions)
        except Exception:
            continue
        shapes = tf.nest.flatten(concrete.output_shapes)
        return bool(shapes) and shapes[0] == tf.TensorShape([])
    return None
