"""Domain adaptation: a gradient turned round, and labels only for some."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from program import Program, stream


@tf.custom_gradient
def turned_round(x):
    return tf.identity(x), lambda upstream: -0.3 * upstream


class TurnRound(layers.Layer):
    def call(self, x):
        return turned_round(x)


def make(way):
    inputs = keras.Input((8,))
    x = layers.Dense(12, activation="gelu")(inputs)
    label = layers.Dense(3, activation="softmax", name="label")(x)
    domain = layers.Dense(6, activation="gelu")(TurnRound()(x))
    domain = layers.Dense(1, activation="sigmoid", name="domain")(domain)
    model = keras.Model(inputs, [label, domain])
    model.compile(
        way.optimizer(keras.optimizers.Adam(5e-3, amsgrad=True)),
        ["sparse_categorical_crossentropy", "binary_crossentropy"],
        metrics=[["accuracy"], []],
    )
    return model


def data(batch):
    random = np.random.default_rng(0)
    domain = random.integers(0, 2, (48, 1)).astype("float32")
    x = (random.normal(size=(48, 8)) + domain).astype("float32")
    labels = (random.integers(0, 3, 48), domain)
    has_label = 1 - domain[:, 0]
    weights = (has_label, np.ones(48, "float32"))
    return stream(x, labels, weights, batch=batch)


PROGRAM = Program(make, data, is_long=True)
