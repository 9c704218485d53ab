"""Adversarial training: a gradient by the input before that by the weights."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from program import Program, stream


class Adversarial(keras.Model):
    def __init__(self, network, epsilon=0.1):
        super().__init__()
        self.network = network
        self.epsilon = epsilon

    def call(self, x, training=False):
        return self.network(x, training=training)

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = self.compute_loss(y=y, y_pred=self(x, training=True))
        gradient = tape.gradient(loss, x)
        norm = ops.sqrt(ops.sum(gradient**2, axis=1, keepdims=True)) + 1e-12
        disturbed = x + self.epsilon * gradient / norm
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = 0.5 * self.compute_loss(y=y, y_pred=y_pred)
            loss += 0.5 * self.compute_loss(
                y=y, y_pred=self(disturbed, training=True)
            )
        weights = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        return self.compute_metrics(x, y, y_pred)


def make(way):
    model = Adversarial(
        keras.Sequential(
            [
                keras.Input((8,)),
                layers.Dense(16, "tanh"),
                layers.Dense(3),
            ]
        )
    )
    model.compile(
        way.optimizer(keras.optimizers.Adam(1e-2)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def data(batch):
    random = np.random.default_rng(0)
    x = random.normal(size=(53, 8)).astype("float32")
    return stream(x, random.integers(0, 3, 53), batch=batch)


PROGRAM = Program(make, data, is_long=True)
