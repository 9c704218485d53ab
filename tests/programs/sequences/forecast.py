"""Forecasts of a series cut into windows, validated, stopped early."""

import keras
import numpy as np
from keras import layers
from problem import untuned
from program import Program


def make(way):
    inputs = keras.Input((6, 2))
    x = layers.Conv1D(6, 3, padding="causal", activation="gelu")(inputs)
    x = layers.SimpleRNN(6)(x)
    model = keras.Model(inputs, layers.Dense(1)(x))
    model.compile(
        way.optimizer(
            keras.optimizers.Nadam(5e-3, use_ema=True, ema_momentum=0.9)
        ),
        "mse",
        metrics=["mae", keras.metrics.R2Score()],
    )
    return model


def windows(start, stop, batch):
    time = np.arange(start, stop)
    series = np.stack([np.sin(time / 3), np.cos(time / 5)], 1)
    series = series.astype("float32")
    return untuned(
        keras.utils.timeseries_dataset_from_array(
            series[:-6],
            series[6:, :1],
            sequence_length=6,
            batch_size=batch,
        )
    )


def data(batch):
    return {
        "x": windows(0, 64, batch),
        "validation_data": windows(100, 130, 8),
        "callbacks": [keras.callbacks.EarlyStopping("val_loss", patience=1)],
    }


PROGRAM = Program(make, data, is_long=True)
