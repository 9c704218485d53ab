"""A fit that is gone on with by another rate, on weighted arrays."""

import keras
import numpy as np
from keras import layers
from program import Program


def make(way):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(12, "gelu", kernel_constraint="max_norm"),
            layers.Dense(1, kernel_regularizer="l2"),
        ]
    )
    model.compile(
        way.optimizer(keras.optimizers.SGD(0.05, nesterov=True, momentum=0.9)),
        "mse",
        weighted_metrics=["mae"],
    )
    return model


def slower(model, way):
    model.optimizer.learning_rate = 0.01


def data(batch):
    random = np.random.default_rng(0)
    x = random.normal(size=(53, 6)).astype("float32")
    y = x[:, :1] * x[:, 1:2]
    weights = random.uniform(0, 3, 53).astype("float32")
    return {
        "x": x,
        "y": y,
        "sample_weight": weights,
        "batch_size": batch,
        "shuffle": False,
        "validation_data": (x[:20], y[:20], weights[:20]),
        "callbacks": [
            keras.callbacks.ReduceLROnPlateau("val_loss", 0.5, 0, min_delta=9)
        ],
    }


PROGRAM = Program(make, data, then=slower, is_long=True)
