"""How Keras makes and reduces losses.

A doorway to private names of Keras, each of which has a contract in
`tests/upstream/test_keras_losses.py`.
"""

import sys
import types
from collections.abc import Iterable
from typing import Any, Literal

import keras
import tensorflow as tf

from tfdp.upstream.private import MissingNameError, Name

_function_wrapper = Name(
    "keras.src.losses.losses.LossFunctionWrapper",
    "keras.losses.MeanSquaredError.__base__",
    serves="functions given to `compile` or tfdp.DistributedLoss are no losses",
)
_get_keras_mask = Name(
    "keras.src.backend.common.masking.get_keras_mask",
    "keras.src.backend.common.get_keras_mask",
    "keras.src.backend.get_keras_mask",
    serves="losses of masked outputs would be averaged by samples",
)
_reduce_weighted_values = Name(
    "keras.src.losses.loss.reduce_weighted_values",
    serves="tfdp.DistributedLoss adds up losses unlike Keras",
)
_apply_mask = Name(
    "keras.src.losses.loss.apply_mask",
    serves="tfdp.DistributedLoss masks unlike Keras",
)
_squeeze_or_expand = Name(
    "keras.src.losses.loss.squeeze_or_expand_to_same_rank",
    serves="tfdp.DistributedLoss weighs samples unlike Keras",
)

_LOGGED = "what a `train_step` logs is divided by the number of replicas"
_scale_loss = Name(
    "keras.src.losses.loss.scale_loss_for_distribution", serves=_LOGGED
)
_unscale_loss = Name(
    "keras.src.losses.loss.unscale_loss_for_distribution", serves=_LOGGED
)
_DIVIDING = ("scale_loss_for_distribution", "unscale_loss_for_distribution")
_LAYERS = keras.layers.Layer.__module__
# Of `tf.nn.compute_average_loss`, and of losses beside Keras's.
_DIVIDING_MODULES = (tf.nn.compute_average_loss.__module__, "tfdp.losses")
_STRATEGIES = tf.distribute.Strategy.__module__


def as_loss(identifier: Any) -> keras.losses.Loss:
    """Returns the loss object that `compile` would make of its argument.

    Raises:
        ValueError: If Keras knows no such loss.
        MissingNameError: If it is a function, and Keras's class of losses
            made of functions is not where it was.
    """
    loss = keras.losses.get(identifier)
    if isinstance(loss, keras.losses.Loss):
        return loss
    name = getattr(loss, "__name__", type(loss).__name__)
    # A lambda has a name that is none.
    wrapper = _function_wrapper.find()
    return wrapper(loss, name=name if name.isidentifier() else None)


def overrides_call(loss: keras.losses.Loss) -> bool:
    """Whether a loss reduces by code of its own."""
    own = type(loss).__call__
    code = getattr(own, "__code__", None)
    if own is keras.losses.Loss.__call__ or code is None:
        return False
    # One that asks Keras's for it is divided there.
    return "__call__" not in code.co_names


def divides_inside_of_a_layer(depth: int = 1) -> bool:
    """Whether Keras divides a loss by the replicas in the call of a layer.

    What a layer then gives to `add_loss` is divided once more by Keras.

    Args:
        depth: How many frames above the caller of this function to look.
    """
    frame = _asking(depth + 1)
    if frame is None or frame.f_code.co_name not in _DIVIDING:
        return False
    while frame is not None:
        module = frame.f_globals.get("__name__")
        if module == _LAYERS and frame.f_code.co_name == "__call__":
            return True
        frame = frame.f_back
    return False


def value_to_divide(depth: int = 1) -> Any:
    """Returns what Keras is about to divide by the number of replicas.

    Args:
        depth: How many frames above the caller of this function to look.

    Returns:
        The loss; `None` where Keras does not divide, or multiplies again.
    """
    frame = _asking(depth + 1)
    is_scaling = frame and frame.f_code.co_name == _DIVIDING[0]
    return frame.f_locals.get("value") if frame and is_scaling else None


def _asking(depth: int) -> types.FrameType | None:
    """Returns the frame that asks a strategy for something."""
    frame: types.FrameType | None = sys._getframe(depth + 1)
    while frame and frame.f_globals.get("__name__") == _STRATEGIES:
        frame = frame.f_back
    return frame


def divider(depth: int = 1) -> Literal["keras", "own"] | None:
    """Who asks for the number of replicas, in order to divide a loss by it.

    Args:
        depth: How many frames above the caller of this function to look.

    Returns:
        `"keras"` for what divides Keras's losses, or multiplies them again;
        `"own"` for code of the user's, which may; `None` for all others.
    """
    frame = _asking(depth + 1)
    if frame is None:
        return None
    divide = [_scale_loss.find(), _unscale_loss.find()]
    if frame.f_code in [each.__code__ for each in divide]:
        return "keras"
    module = str(frame.f_globals.get("__name__"))
    is_own = module.partition(".")[0] not in ("keras", "tensorflow", "tfdp")
    return "own" if is_own or module in _DIVIDING_MODULES else None


def undivided(loss: tf.Tensor) -> tf.Tensor:
    """Returns a replica's loss as Keras logs it, as a mean over its samples."""
    return _unscale_loss.find()(loss)


def mask_of(tensors: Any) -> tf.Tensor | None:
    """Returns the mask that Keras's layers have attached, if any."""
    return _get_keras_mask.find()(tensors)


def has_mask(output: Any, layers: Iterable[keras.layers.Layer]) -> bool:
    """Whether a model's output has a mask.

    Args:
        output: The symbolic output.
        layers: All layers of the model.

    Raises:
        MissingNameError: If there is no asking for masks, and one of the
            layers may make one.
    """
    try:
        return mask_of(output) is not None
    except MissingNameError:
        if any(map(_may_make_a_mask, layers)):
            raise
        return False


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
    total = _reduce_weighted_values.find()(
        values, sample_weight, mask, reduction="sum", dtype=values.dtype
    )
    weights = _apply_mask.find()(
        sample_weight, mask, dtype=values.dtype, reduction="sum"
    )
    if weights is not None:
        _, weights = _squeeze_or_expand.find()(
            values, tf.cast(weights, values.dtype)
        )
    return total, weights


def _may_make_a_mask(layer: keras.layers.Layer) -> bool:
    by_default = keras.layers.Layer.compute_mask
    return (
        type(layer).compute_mask is not by_default
        and getattr(layer, "mask_zero", True) is not False
    )
