"""OCR: convolutions, two directions of time, CTC of padded labels."""

import keras
import numpy as np
from keras import layers
from program import Program, stream


def make(way):
    inputs = keras.Input((16, 6, 1), name="image")
    x = layers.Conv2D(4, 3, padding="same", activation="gelu")(inputs)
    x = layers.MaxPooling2D((2, 2))(x)
    x = layers.Reshape((8, 12))(x)
    x = layers.Dense(8, activation="gelu")(x)
    x = layers.Bidirectional(layers.LSTM(6, return_sequences=True))(x)
    model = keras.Model(inputs, layers.Dense(5, name="logits")(x))
    model.compile(
        way.optimizer(keras.optimizers.Adam(5e-3)), keras.losses.CTC()
    )
    return model


def data(batch):
    random = np.random.default_rng(0)
    x = random.uniform(size=(53, 16, 6, 1)).astype("float32")
    labels = random.integers(1, 5, (53, 3))
    labels[::3, 2] = 0  # Padding, which CTC takes for the end.
    return stream(x, labels, batch=batch)


PROGRAM = Program(make, data, is_long=True)
