"""Siamese twins: one network twice, and a loss that takes its own mean."""

import keras
import numpy as np
from keras import layers, ops
from program import Program, stream


def contrastive_loss(y_true, y_pred):
    margin_square = ops.square(ops.maximum(1.0 - y_pred, 0.0))
    return ops.mean((1 - y_true) * ops.square(y_pred) + y_true * margin_square)


class Distance(layers.Layer):
    def call(self, twins):
        square = ops.sum(ops.square(twins[0] - twins[1]), 1, keepdims=True)
        return ops.sqrt(ops.maximum(square, keras.config.epsilon()))


def make(way):
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(4, 3, activation="tanh")(inputs)
    x = layers.AveragePooling2D(2)(x)
    x = layers.Dense(6, activation="tanh")(layers.Flatten()(x))
    tower = keras.Model(inputs, x)
    left, right = keras.Input((8, 8, 1)), keras.Input((8, 8, 1))
    distance = Distance()([tower(left), tower(right)])
    model = keras.Model(
        [left, right], layers.Dense(1, activation="sigmoid")(distance)
    )
    model.compile(
        way.optimizer(keras.optimizers.RMSprop(5e-2, epsilon=1e-3)),
        way.loss(contrastive_loss, over="samples"),
        metrics=["accuracy"],
    )
    return model


def data(batch):
    random = np.random.default_rng(0)
    left, right = random.uniform(size=(2, 53, 8, 8, 1)).astype("float32")
    y = random.integers(0, 2, (53, 1)).astype("float32")
    return stream((left, right), y, batch=batch)


PROGRAM = Program(make, data)
