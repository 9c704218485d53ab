"""A small GPT: causal attention, two outputs of which one has a loss."""

import keras
import numpy as np
from keras import layers, ops
from program import Program, stream


class Positions(layers.Layer):
    def __init__(self, length, dim):
        super().__init__()
        self.table = layers.Embedding(length, dim)

    def call(self, x):
        return x + self.table(ops.arange(ops.shape(x)[1]))


def make(way):
    inputs = keras.Input((6,), dtype="int32")
    x = Positions(6, 8)(layers.Embedding(15, 8)(inputs))
    attended = layers.MultiHeadAttention(2, 4, use_bias=False)(
        x, x, use_causal_mask=True
    )
    x = layers.LayerNormalization()(x + attended)
    hidden = layers.Dense(16, activation="gelu")(x)
    block = layers.LayerNormalization()(x + layers.Dense(8)(hidden))
    model = keras.Model(inputs, [layers.Dense(15)(block), block])
    model.compile(
        way.optimizer(
            keras.optimizers.Adam(1e-2, epsilon=1e-4, global_clipnorm=1.0)
        ),
        loss=[
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            None,
        ],
    )
    return model


def data(batch):
    random = np.random.default_rng(0)
    tokens = np.cumsum(random.integers(1, 3, (53, 7)), axis=1) % 15
    return stream(tokens[:, :-1], tokens[:, 1:], batch=batch)


PROGRAM = Program(make, data, is_long=True)
