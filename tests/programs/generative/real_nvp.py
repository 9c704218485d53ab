"""Real NVP: coupling layers, a likelihood, a step for training and testing."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops, regularizers
from program import Program, replicas, stream


def coupling():
    inputs = keras.Input((2,))
    l2 = regularizers.L2(0.01)
    x = layers.Dense(8, "tanh", kernel_regularizer=l2)(inputs)
    scale = layers.Dense(2, "tanh", kernel_regularizer=l2)(x)
    y = layers.Dense(8, "tanh", kernel_regularizer=l2)(inputs)
    return keras.Model(inputs, [scale, layers.Dense(2)(y)])


class RealNVP(keras.Model):
    def __init__(self, couplings):
        super().__init__()
        self.masks = np.array(
            [[0, 1], [1, 0]] * (couplings // 2), dtype="float32"
        )
        self.loss_tracker = keras.metrics.Mean(name="loss")
        self.layers_list = [coupling() for _ in range(couplings)]

    @property
    def metrics(self):
        return [self.loss_tracker]

    def call(self, x):
        log_det = 0.0
        for mask, layer in zip(self.masks, self.layers_list, strict=True):
            s, t = layer(x * mask)
            s, t = s * (1 - mask), t * (1 - mask)
            x = (x - t) * ops.exp(-s)
            log_det -= ops.sum(s, axis=1)
        return x, log_det

    def log_loss(self, x):
        y, log_det = self(x)
        likelihood = -0.5 * ops.sum(y**2, axis=1) - np.log(2 * np.pi) + log_det
        return -ops.mean(likelihood)

    def train_step(self, data):
        with tf.GradientTape() as tape:
            loss = self.log_loss(data)
            total = loss + sum(self.losses)
            scaled = total / replicas()
        g = tape.gradient(scaled, self.trainable_variables)
        self.optimizer.apply_gradients(
            zip(g, self.trainable_variables, strict=True)
        )
        # As many samples as this batch has: the last one has fewer.
        self.loss_tracker.update_state(loss, sample_weight=ops.shape(data)[0])
        return {"loss": self.loss_tracker.result()}

    def test_step(self, data):
        loss = self.log_loss(data)
        self.loss_tracker.update_state(loss, sample_weight=ops.shape(data)[0])
        return {"loss": self.loss_tracker.result()}


def make(way):
    model = RealNVP(2)
    model.compile(optimizer=way.optimizer(keras.optimizers.Adam(1e-2)))
    return model


def data(batch):
    random = np.random.default_rng(0)
    angle = random.uniform(0, np.pi, 53)
    x = np.stack([np.cos(angle), np.sin(angle)], 1).astype("float32")
    held_out = stream(x[::4].copy(), batch=8)["x"]
    return stream(x, batch=batch) | {"validation_data": held_out}


PROGRAM = Program(make, data, is_long=True)
