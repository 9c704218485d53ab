"""The two tasks of `study.py`: data without a download, and a model.

`digits` is scikit-learn's copy of the UCI handwritten digits: 1,797 images of
8 x 8 pixels, a fifth of them held out. `text` is the next character in the
source of Python's standard library, so that its numbers depend on the version
of Python; every tenth file is held out. What is trained on and what is held
out is the same in all runs: a seed decides the initial weights and the order
of the samples.
"""

import os
import pathlib

import keras
import numpy as np
import sklearn.datasets
import sklearn.model_selection
from keras import layers

SPLIT_SEED, HELD_OUT = 0, 0.2
DIGITS_DROPOUT = 0.25
# So little text, for so many epochs, that data and not time is what limits
# the base run; else no rule brings a large batch near it in half a minute.
NUM_SEQUENCES, NUM_HELD_OUT_SEQUENCES, LENGTH = 1024, 1024, 16
NUM_CHARACTERS, WIDTH, NUM_BLOCKS, NUM_HEADS = 128, 32, 2, 2
TEXT_DROPOUT = 0.1


def digits():
    """Returns images and labels to train on, and those held out."""
    images, labels = sklearn.datasets.load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8, 1).astype("float32") / 16
    x, held_out_x, y, held_out_y = sklearn.model_selection.train_test_split(
        images,
        labels,
        test_size=HELD_OUT,
        stratify=labels,
        random_state=SPLIT_SEED,
    )
    return (x, y), (held_out_x, held_out_y)


def digits_model():
    relu = {"activation": "relu", "kernel_initializer": "he_normal"}
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(16, 3, padding="same", **relu),
            layers.Conv2D(32, 3, padding="same", **relu),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(DIGITS_DROPOUT),
            layers.Dense(64, **relu),
            layers.Dropout(DIGITS_DROPOUT),
            layers.Dense(10),
        ]
    )


def text():
    """Returns sequences and their next characters, and those held out."""
    files = sorted(pathlib.Path(os.__file__).parent.glob("*.py"))
    held_out = files[::10]
    train = [file for file in files if file not in held_out]
    return (
        _sequences(train, NUM_SEQUENCES),
        _sequences(held_out, NUM_HELD_OUT_SEQUENCES),
    )


def _sequences(files, count):
    characters = np.concatenate(
        [np.frombuffer(file.read_bytes(), np.uint8) for file in files]
    )
    characters = np.where(characters < NUM_CHARACTERS, characters, 0)
    starts = np.linspace(0, len(characters) - LENGTH - 1, count).astype(int)
    sequences = characters[starts[:, None] + np.arange(LENGTH + 1)]
    return sequences[:, :-1].astype("int32"), sequences[:, 1:].astype("int32")


class Positions(layers.Layer):
    """Adds to each place of a sequence a vector of its own."""

    def build(self, shape):
        self.table = self.add_weight(
            name="table", shape=shape[1:], initializer="uniform"
        )

    def call(self, inputs):
        return inputs + self.table


def text_model():
    """Returns a causal transformer with normalisation before each branch."""
    inputs = keras.Input((LENGTH,), dtype="int32")
    x = Positions()(layers.Embedding(NUM_CHARACTERS, WIDTH)(inputs))
    for _ in range(NUM_BLOCKS):
        branch = layers.LayerNormalization()(x)
        attention = layers.MultiHeadAttention(NUM_HEADS, WIDTH // NUM_HEADS)
        branch = attention(branch, branch, use_causal_mask=True)
        x = x + layers.Dropout(TEXT_DROPOUT)(branch)
        branch = layers.LayerNormalization()(x)
        branch = layers.Dense(4 * WIDTH, "gelu")(branch)
        x = x + layers.Dropout(TEXT_DROPOUT)(layers.Dense(WIDTH)(branch))
    outputs = layers.Dense(NUM_CHARACTERS)(layers.LayerNormalization()(x))
    return keras.Model(inputs, outputs)
