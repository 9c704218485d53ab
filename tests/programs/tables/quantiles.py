"""Regression with its uncertainty: a likelihood, and quantiles by name."""

import keras
import numpy as np
from keras import layers, ops
from program import Program, stream


def negative_log_likelihood(y, outputs):
    mean, log_scale = ops.split(outputs, 2, axis=-1)
    z = (y - mean) * ops.exp(-log_scale)
    return ops.squeeze(0.5 * ops.square(z) + log_scale, axis=-1)


@keras.saving.register_keras_serializable(package="programs")
class Pinball(keras.losses.Loss):
    def __init__(self, quantiles, **kwargs):
        super().__init__(**kwargs)
        self.quantiles = quantiles

    def call(self, y_true, y_pred):
        error = y_true - y_pred
        q = ops.convert_to_tensor(self.quantiles, error.dtype)
        return ops.mean(ops.maximum(q * error, (q - 1) * error), axis=-1)

    def get_config(self):
        return {**super().get_config(), "quantiles": self.quantiles}


def make(way):
    inputs = keras.Input((6,))
    x = layers.Dense(16, activation="gelu", activity_regularizer="l2")(inputs)
    outputs = {
        "normal": layers.Dense(2, name="normal")(x),
        "quantiles": layers.Dense(3, name="quantiles")(x),
    }
    model = keras.Model(inputs, outputs)
    model.compile(
        way.optimizer(keras.optimizers.Adamax(1e-2)),
        {
            "normal": negative_log_likelihood,
            "quantiles": Pinball((0.1, 0.5, 0.9)),
        },
        loss_weights={"normal": 0.5, "quantiles": 1.0},
    )
    return model


def data(batch):
    random = np.random.default_rng(0)
    x = random.normal(size=(48, 6)).astype("float32")
    y = (x[:, :1] + random.normal(size=(48, 1))).astype("float32")
    return stream(x, {"normal": y, "quantiles": y}, batch=batch)


PROGRAM = Program(make, data)
