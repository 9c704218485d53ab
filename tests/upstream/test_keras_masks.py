"""Which private name of Keras moved, of those that `keras_masks` uses."""

import keras
import tensorflow as tf
from contracts import contract

from tfdp.upstream.keras import keras_masks


@contract(
    "get_keras_mask", "set_keras_mask", serves="masks end where a Stage begins"
)
def test_layers_attach_masks_and_find_those_attached():
    tokens = tf.constant([[1, 2, 0], [3, 0, 0]])
    embedded = keras.layers.Embedding(5, 2, mask_zero=True)(tokens)
    (mask,) = keras_masks.masks_of(embedded)
    assert mask.numpy().tolist() == (tokens > 0).numpy().tolist()
    other = tf.identity(embedded)
    assert keras_masks.masks_of([other, tokens]) == [None, None]
    keras_masks.attach([other, tokens], [mask, None])
    pooled = keras.layers.GlobalAveragePooling1D()
    assert (pooled(other) == pooled(embedded)).numpy().all()
    assert (pooled(other) != pooled(tf.identity(other))).numpy().any()


def test_without_masks_nothing_is_attached():
    tensor = tf.ones((2, 3))
    keras_masks.attach([tensor], None)
    assert keras_masks.masks_of([tensor]) == [None]
