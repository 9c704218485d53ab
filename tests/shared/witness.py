"""A model that tells which samples it was trained on."""

import keras
import tensorflow as tf


class Witness(keras.Model):
    """Writes down the labels, which number the samples."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)
        self.epochs = []

    def call(self, x):
        return self.dense(x)

    def train_step(self, data):
        tf.py_function(
            lambda y: self.epochs[-1].extend(map(int, y.numpy()[:, 0])),
            [data[1]],
            [],
        )
        return super().train_step(data)
