"""How Keras makes and reduces losses.

A doorway to private names of Keras, each of which has a contract in
`tests/upstream/test_keras_losses.py`.
"""

import sys
import types
from typing import Any, Literal

import keras
import tensorflow as tf
from keras.src import backend as _backend
from keras.src.losses import loss as _loss
from keras.src.losses.losses import LossFunctionWrapper as _LossFunctionWrapper

_DIVIDING = (
    _loss.scale_loss_for_distribution.__code__,
    _loss.unscale_loss_for_distribution.__code__,
)
# Of `tf.nn.compute_average_loss`, and of losses beside Keras's.
_DIVIDING_MODULES = (tf.nn.compute_average_loss.__module__, "tfdp.losses")
_STRATEGIES = tf.distribute.Strategy.__module__


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


def divider(depth: int = 1) -> Literal["keras", "own"] | None:
    """Who asks for the number of replicas, in order to divide a loss by it.

    Args:
        depth: How many frames above the caller of this function to look.

    Returns:
        `"keras"` for what divides Keras's losses, or multiplies them again;
        `"own"` for code of the user's, which may; `None` for all others.
    """
    frame: types.FrameType | None = sys._getframe(depth + 1)
    while frame and frame.f_globals.get("__name__") == _STRATEGIES:
        frame = frame.f_back
    if frame is None:
        return None
    if frame.f_code in _DIVIDING:
        return "keras"
    module = str(frame.f_globals.get("__name__"))
    is_own = module.partition(".")[0] not in ("keras", "tensorflow", "tfdp")
    return "own" if is_own or module in _DIVIDING_MODULES else None


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
