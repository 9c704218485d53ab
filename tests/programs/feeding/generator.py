"""Batches from a Python generator, of which nobody knows how many come."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from problem import untuned
from program import Program


def make(way):
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(12, "gelu"), layers.Dense(3)]
    )
    rate = keras.optimizers.schedules.PolynomialDecay(0.02, 12, 0.001)
    model.compile(
        way.optimizer(
            keras.optimizers.Adam(rate, use_ema=True, ema_momentum=0.9)
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def samples():
    random = np.random.default_rng(0)
    for _ in range(53):
        x = random.normal(size=6).astype("float32")
        yield x, np.int64(x[:3].argmax())


def data(batch):
    given = tf.data.Dataset.from_generator(
        samples,
        output_signature=(
            tf.TensorSpec((6,), tf.float32),
            tf.TensorSpec((), tf.int64),
        ),
    )
    given = given.filter(lambda x, y: x[0] > -1.5)
    return {"x": untuned(given.batch(batch))}


PROGRAM = Program(make, data, fit={"epochs": 3})
