"""Models by which the estimate of memory was found.

Each function returns a model, samples, their targets, a loss, and an optimizer.
"""

import keras
import numpy as np


def _normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def _labels(*shape):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return np.zeros(shape, "int32"), loss


def dense():
    layers = [keras.layers.Dense(4096, "relu") for _ in range(3)]
    model = keras.Sequential(
        [keras.Input((4096,)), *layers, keras.layers.Dense(10)]
    )
    return (
        model,
        _normal(2048, 4096),
        *_labels(2048),
        keras.optimizers.Adam(1e-4),
    )


def conv():
    x = inputs = keras.Input((64, 64, 3))
    for filters in (32, 32, 64, 64):
        y = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        y = keras.layers.BatchNormalization()(y)
        y = keras.layers.Activation("relu")(y)
        y = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(y)
        y = keras.layers.BatchNormalization()(y)
        x = keras.layers.Conv2D(filters, 1)(x)
        x = keras.layers.Activation("relu")(keras.layers.add([x, y]))
        if filters == 32:
            x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(10)(x))
    return (
        model,
        _normal(96, 64, 64, 3),
        *_labels(96),
        keras.optimizers.SGD(0.1, momentum=0.9),
    )


def transformer():
    x = inputs = keras.Input((128, 256))
    for _ in range(4):
        y = keras.layers.LayerNormalization()(x)
        y = keras.layers.MultiHeadAttention(8, 32, dropout=0.1)(y, y)
        x = keras.layers.add([x, keras.layers.Dropout(0.1)(y)])
        y = keras.layers.LayerNormalization()(x)
        y = keras.layers.Dense(1024, "gelu")(y)
        y = keras.layers.Dense(256)(y)
        x = keras.layers.add([x, keras.layers.Dropout(0.1)(y)])
    model = keras.Model(inputs, keras.layers.Dense(100)(x))
    return (
        model,
        _normal(48, 128, 256),
        *_labels(48, 128),
        keras.optimizers.AdamW(1e-4),
    )


def embedding():
    inputs = keras.Input((64,), dtype="int32")
    x = keras.layers.Embedding(400_000, 128)(inputs)
    x = keras.layers.Dense(256, "relu")(x)
    x = keras.layers.GlobalAveragePooling1D()(x)
    model = keras.Model(inputs, keras.layers.Dense(10)(x))
    x = np.random.default_rng(0).integers(0, 400_000, (2048, 64))
    return model, x, *_labels(2048), keras.optimizers.Adam(1e-4)


def rnn():
    inputs = keras.Input((100, 64))
    x = keras.layers.LSTM(256, return_sequences=True)(inputs)
    x = keras.layers.GRU(256, return_sequences=True)(x)
    model = keras.Model(inputs, keras.layers.Dense(10)(x))
    return (
        model,
        _normal(256, 100, 64),
        *_labels(256, 100),
        keras.optimizers.RMSprop(1e-3),
    )


def mixed():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    inputs = keras.Input((64, 512))
    x = inputs
    for _ in range(4):
        x = keras.layers.Dense(1024, "relu")(x)
        x = keras.layers.LayerNormalization()(x)
    x = keras.layers.Dense(10, dtype="float32")(x)
    model = keras.Model(inputs, x)
    return (
        model,
        _normal(512, 64, 512),
        *_labels(512, 64),
        keras.optimizers.Adam(1e-4),
    )


SEEN = {
    f.__name__: f for f in (dense, conv, transformer, embedding, rnn, mixed)
}
