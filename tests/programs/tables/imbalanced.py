"""Rare positives: weights of classes, and counts that add up over an epoch."""

import keras
import numpy as np
from keras import layers
from program import Program, stream


def make(way):
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(16, activation="gelu"),
            layers.Dense(16, activation="gelu"),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    metrics = keras.metrics
    model.compile(
        way.optimizer(keras.optimizers.Adam(1e-2)),
        "binary_crossentropy",
        metrics=[
            metrics.FalseNegatives(name="fn"),
            metrics.FalsePositives(name="fp"),
            metrics.TruePositives(name="tp"),
            metrics.Precision(name="precision"),
            metrics.Recall(name="recall"),
            metrics.F1Score(threshold=0.5, name="f1"),
        ],
        weighted_metrics=[metrics.MeanSquaredError(name="weighted")],
    )
    return model


def data(batch):
    random = np.random.default_rng(0)
    x = random.normal(size=(53, 8)).astype("float32")
    y = (x[:, :1] > 0.8).astype("float32")
    return stream(x, y, batch=batch) | {
        "validation_data": stream(x[:20], y[:20], batch=8)["x"]
    }


PROGRAM = Program(
    make, data, fit={"class_weight": {0: 0.3, 1: 2.0}}, is_long=True
)
