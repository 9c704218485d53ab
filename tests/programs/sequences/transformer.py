"""A transformer block on tokens and positions, its padding not attended to."""

import keras
import numpy as np
from keras import layers, ops
from program import Program, stream


class TransformerBlock(layers.Layer):
    def __init__(self, dim, heads, hidden):
        super().__init__()
        self.att = layers.MultiHeadAttention(
            heads, dim // heads, use_bias=False
        )
        self.ffn = keras.Sequential(
            [layers.Dense(hidden, activation="gelu"), layers.Dense(dim)]
        )
        self.first = layers.LayerNormalization(epsilon=1e-6)
        self.second = layers.LayerNormalization(epsilon=1e-6)
        self.supports_masking = True

    def call(self, inputs, mask=None):
        if mask is not None:
            mask = mask[:, None, :]
        out = self.first(inputs + self.att(inputs, inputs, attention_mask=mask))
        return self.second(out + self.ffn(out))


class TokenAndPositionEmbedding(layers.Layer):
    def __init__(self, length, vocabulary, dim):
        super().__init__()
        self.tokens = layers.Embedding(vocabulary, dim, mask_zero=True)
        self.positions = layers.Embedding(length, dim)

    def call(self, x):
        positions = ops.arange(0, ops.shape(x)[-1], 1)
        return self.tokens(x) + self.positions(positions)

    def compute_mask(self, x, mask=None):
        return self.tokens.compute_mask(x)


def make(way):
    inputs = keras.Input((6,), dtype="int32")
    x = TokenAndPositionEmbedding(6, 20, 8)(inputs)
    x = TransformerBlock(8, 2, 16)(x)
    x = layers.GlobalAveragePooling1D()(x)
    model = keras.Model(inputs, layers.Dense(3, activation="softmax")(x))
    model.compile(
        way.optimizer(keras.optimizers.AdamW(5e-3, epsilon=1e-4)),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def data(batch):
    random = np.random.default_rng(0)
    tokens = random.integers(1, 20, (53, 6))
    length = random.integers(1, 7, (53, 1))
    x = np.where(np.arange(6) < length, tokens, 0).astype("int32")
    return stream(x, random.integers(0, 3, 53), batch=batch)


PROGRAM = Program(make, data, is_long=True)
