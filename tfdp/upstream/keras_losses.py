"""How Keras makes and reduces losses.

A doorway to private names of Keras, each of which has a contract in
`tests/upstream/test_keras_losses.py`.
"""

from typing import Any

import keras
import tensorflow as tf
from keras.src import backend as _backend
from keras.src.losses import loss as _loss
from keras.src.losses.losses import LossFunctionWrapper as _LossFunctionWrapper


def as_loss(identifier: Any) -> keras.losses.Loss:
    """Returns the loss object that `compile` would make of its argument.

    Raises:
        ValueError: If Keras knows no such loss.
    """
    loss = keras.losses.get(identifier)
    if isinstance(loss, keras.losses.Loss):
        return loss
    name = getattr(loss, "__name__", type(loss).__name__)
    # A lambda has a name that is none.
    return _LossFunctionWrapper(
        loss, name=name if name.isidentifier() else None
    )


def mask_of(tensors: Any) -> tf.Tensor | None:
    """Returns the mask that Keras's layers have attached, if any."""
    return _backend.get_keras_mask(tensors)


def weighted_sum(
    values: tf.Tensor,
    sample_weight: tf.Tensor | None,
    mask: tf.Tensor | None,
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Adds up values as Keras's losses do before they divide.

    Returns:
        The sum, and the weights that mask and samples make together, or `None`
        where there are neither.
    """
    total = _loss.reduce_weighted_values(
        values, sample_weight, mask, reduction="sum", dtype=values.dtype
    )
    weights = _loss.apply_mask(
        sample_weight, mask, dtype=values.dtype, reduction="sum"
    )
    if weights is not None:
        _, weights = _loss.squeeze_or_expand_to_same_rank(
            values, tf.cast(weights, values.dtype)
        )
    return total, weights
