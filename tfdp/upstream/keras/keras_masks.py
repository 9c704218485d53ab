"""The masks that Keras's layers attach to tensors.

A doorway to private names of Keras, each of which has a contract in
`tests/upstream/test_keras_masks.py`.
"""

from typing import Any

import keras
import tensorflow as tf

from tfdp.upstream.private import Name

_MASKS = "masks would end where a `tfdp.Stage` begins"
_get_keras_mask = Name(
    "keras.src.backend.common.masking.get_keras_mask",
    "keras.src.backend.common.get_keras_mask",
    "keras.src.backend.get_keras_mask",
    serves=_MASKS,
)
_set_keras_mask = Name(
    "keras.src.backend.common.masking.set_keras_mask",
    "keras.src.backend.common.set_keras_mask",
    "keras.src.backend.set_keras_mask",
    serves=_MASKS,
)


def masks_of(tensors: Any) -> list[tf.Tensor | None]:
    """Returns the masks of a structure's tensors, one after another."""
    return [_get_keras_mask.find()(t) for t in keras.tree.flatten(tensors)]


def attach(tensors: Any, masks: Any) -> None:
    """Attaches masks to tensors.

    Args:
        tensors: A structure of tensors, or of symbolic ones.
        masks: The masks, in the same order; `None` where there is none, or
            instead of all.
    """
    flat = keras.tree.flatten(tensors)
    given = [None] * len(flat) if masks is None else keras.tree.flatten(masks)
    for tensor, mask in zip(flat, given, strict=True):
        if mask is not None:
            _set_keras_mask.find()(tensor, mask)
