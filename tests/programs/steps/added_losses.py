"""Losses of layers and activity regularisers beside synchronised statistics."""

import keras
import numpy as np
from keras import layers, ops
from program import Other, Program, stream


class Sparse(layers.Layer):
    """Keeps the mean activation of each sample small."""

    def call(self, x):
        self.add_loss(0.1 * ops.mean(ops.abs(x)))
        return x


class Bottleneck(layers.Layer):
    """A regulariser of a layer within a layer."""

    def __init__(self):
        super().__init__()
        self.inner = layers.Dense(
            4, activation="gelu", activity_regularizer="l2"
        )
        self.outer = layers.Dense(8)

    def call(self, x):
        code = self.inner(x)
        self.add_loss(0.01 * ops.mean(ops.square(code)))
        return self.outer(code)


def make(way):
    inputs = keras.Input((8,))
    x = layers.Dense(8, activity_regularizer=keras.regularizers.L1(1e-2))(
        inputs
    )
    x = layers.BatchNormalization(synchronized=True)(x)
    x = Sparse()(layers.Activation("gelu")(x))
    x = layers.BatchNormalization(synchronized=True)(x)
    x = Bottleneck()(x)
    model = keras.Model(inputs, layers.Dense(1)(x))
    model.compile(
        way.optimizer(keras.optimizers.SGD(0.05, momentum=0.9)), "mse"
    )
    return model


def data(batch):
    random = np.random.default_rng(0)
    x = random.normal(size=(53, 8)).astype("float32")
    return stream(x, x[:, :1] * x[:, 1:2], batch=batch)


PROGRAM = Program(
    make,
    data,
    differs={"accumulating": Other("statistics are a micro-batch's")},
)
