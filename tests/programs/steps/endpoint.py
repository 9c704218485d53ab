"""An endpoint layer: labels go in, it adds the loss, `compile` has none."""

import keras
import numpy as np
from keras import layers
from program import Program, stream


class LogisticEndpoint(layers.Layer):
    def __init__(self, name=None):
        super().__init__(name=name)
        self.loss_fn = keras.losses.BinaryCrossentropy(from_logits=True)

    def call(self, logits, targets=None):
        if targets is not None:
            self.add_loss(self.loss_fn(targets, logits))
        return keras.ops.sigmoid(logits)


def make(way):
    inputs = keras.Input((6,), name="inputs")
    targets = keras.Input((1,), name="targets")
    logits = layers.Dense(1)(layers.Dense(12, activation="gelu")(inputs))
    predictions = LogisticEndpoint(name="predictions")(logits, targets)
    model = keras.Model([inputs, targets], predictions)
    model.compile(way.optimizer(keras.optimizers.Adam(1e-2)))
    return model


def data(batch):
    random = np.random.default_rng(0)
    x = random.normal(size=(53, 6)).astype("float32")
    y = (x[:, :1] > 0).astype("float32")
    return stream({"inputs": x, "targets": y}, batch=batch)


PROGRAM = Program(make, data)
