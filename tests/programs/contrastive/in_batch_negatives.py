"""Retrieval among the answers of a batch, which nothing gathers."""

import keras
import numpy as np
from keras import layers, ops
from program import Found, Program, stream


class AgainstAll(layers.Layer):
    def call(self, queries, answers):
        return ops.matmul(queries, ops.transpose(answers))


class OwnRow(keras.losses.Loss):
    def call(self, y_true, logits):
        return keras.losses.sparse_categorical_crossentropy(
            ops.arange(ops.shape(logits)[0]), logits, from_logits=True
        )


def make(way):
    query, answer = keras.Input((8,)), keras.Input((8,))
    logits = AgainstAll(name="against_all")(
        layers.Dense(6, "tanh")(query), layers.Dense(6, "tanh")(answer)
    )
    model = keras.Model([query, answer], logits)
    model.compile(way.optimizer(keras.optimizers.Adam(1e-2)), OwnRow())
    return model


def data(batch):
    random = np.random.default_rng(0)
    x = random.normal(size=(48, 8)).astype("float32")
    return stream((x, x[:, ::-1].copy()), np.zeros(48), batch=batch)


WHOLE = Found("(?s)error.*against_all.*gather")
PROGRAM = Program(
    make,
    data,
    differs={
        "two replicas": WHOLE,
        "accumulating": WHOLE,
        "two workers": WHOLE,
    },
)
