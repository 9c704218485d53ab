"""Text classification: padding is masked through two recurrent layers."""

import keras
import numpy as np
from keras import layers
from program import Program, stream


def make(way):
    inputs = keras.Input((None,), dtype="int32")
    x = layers.Embedding(20, 8, mask_zero=True)(inputs)
    x = layers.Bidirectional(layers.LSTM(5, return_sequences=True))(x)
    x = layers.GRU(6)(x)
    model = keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))
    model.compile(
        way.optimizer(keras.optimizers.Adam(1e-2, clipvalue=0.05)),
        "binary_crossentropy",
        metrics=["accuracy", keras.metrics.AUC(name="auc")],
    )
    return model


def data(batch):
    random = np.random.default_rng(0)
    tokens = random.integers(1, 20, (53, 7))
    length = random.integers(1, 8, (53, 1))
    x = np.where(np.arange(7) < length, tokens, 0).astype("int32")
    y = (x[:, :1] > 9).astype("float32")
    return stream(x, y, batch=batch)


PROGRAM = Program(make, data, is_long=True)
