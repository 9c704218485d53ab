"""Entities in text: a loss function that divides by the words of the batch."""

import keras
import numpy as np
from keras import layers, ops
from program import Program, Refused, stream


class CustomNonPaddingTokenLoss(keras.losses.Loss):
    def __init__(self, name="custom_ner_loss"):
        super().__init__(name=name)

    def call(self, y_true, y_pred):
        loss = keras.losses.sparse_categorical_crossentropy(
            y_true, y_pred, from_logits=False
        )
        mask = ops.cast(y_true > 0, "float32")
        return ops.sum(loss * mask) / ops.sum(mask)


class NERModel(keras.Model):
    def __init__(self, tags):
        super().__init__()
        self.embedding = layers.Embedding(20, 8)
        self.attention = layers.MultiHeadAttention(2, 4, use_bias=False)
        self.normalise = layers.LayerNormalization()
        self.ff = layers.Dense(8, activation="gelu")
        self.ff_final = layers.Dense(tags, activation="softmax")

    def call(self, inputs, training=False):
        x = self.embedding(inputs)
        x = self.normalise(x + self.attention(x, x))
        return self.ff_final(self.ff(x))


def make(way):
    model = NERModel(4)
    model.compile(
        way.optimizer(keras.optimizers.Adam(1e-2, epsilon=1e-4)),
        way.loss(CustomNonPaddingTokenLoss()),
    )
    return model


def data(batch):
    random = np.random.default_rng(0)
    length = random.integers(1, 7, (53, 1))
    is_word = np.arange(6) < length
    x = np.where(is_word, random.integers(1, 20, (53, 6)), 0)
    y = np.where(is_word, 1 + x % 3, 0)
    return stream(x.astype("int32"), y.astype("int32"), batch=batch)


PROGRAM = Program(make, data, differs={"accumulating": Refused("whole.*batch")})
