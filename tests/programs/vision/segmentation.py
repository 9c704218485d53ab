"""A U-Net with Dice, which is one number for all pixels of the batch."""

import keras
import numpy as np
from keras import layers
from program import Program, Refused, stream


def make(way):
    inputs = keras.Input((8, 8, 3))
    down = layers.Conv2D(4, 3, padding="same", activation="gelu")(inputs)
    x = layers.MaxPooling2D()(down)
    x = layers.SeparableConv2D(6, 3, padding="same", activation="gelu")(x)
    x = layers.Conv2DTranspose(4, 3, strides=2, padding="same")(x)
    x = layers.Concatenate()([x, down])
    x = layers.Conv2D(2, 1, activation="softmax")(x)
    model = keras.Model(inputs, x)
    model.compile(
        way.optimizer(keras.optimizers.Adam(1e-2)),
        way.loss(keras.losses.Dice()),
        metrics=[
            keras.metrics.OneHotMeanIoU(2, name="iou"),
            "categorical_accuracy",
        ],
    )
    return model


def data(batch):
    random = np.random.default_rng(0)
    x = random.uniform(size=(53, 8, 8, 3)).astype("float32")
    is_inside = (x.mean(axis=-1) > 0.5).astype(int)
    return stream(x, np.eye(2, dtype="float32")[is_inside], batch=batch)


PROGRAM = Program(
    make,
    data,
    differs={"accumulating": Refused("whole.*batch")},
)
