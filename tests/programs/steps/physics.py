"""A physics-informed network: its loss has a gradient of a gradient."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from program import Program, replicas, stream


class Heat(keras.Model):
    """u_t = u_xx inside, u = sin(pi x) at the start."""

    def __init__(self):
        super().__init__()
        self.network = keras.Sequential(
            [
                keras.Input((2,)),
                layers.Dense(12, "tanh"),
                layers.Dense(12, "tanh"),
                layers.Dense(1),
            ]
        )
        self.loss_tracker = keras.metrics.Mean(name="loss")

    @property
    def metrics(self):
        return [self.loss_tracker]

    def call(self, points):
        return self.network(points)

    def residual(self, points):
        x, t = points[:, :1], points[:, 1:]
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape(persistent=True) as inner:
                inner.watch([x, t])
                u = self.network(ops.concatenate([x, t], axis=1))
            u_x, u_t = inner.gradient(u, x), inner.gradient(u, t)
        return u_t - outer.gradient(u_x, x)

    def train_step(self, data):
        inside, start = data
        at_start = ops.concatenate([start, ops.zeros_like(start)], axis=1)
        with tf.GradientTape() as tape:
            physics = ops.mean(ops.square(self.residual(inside)))
            given = ops.mean(
                ops.square(self.network(at_start) - ops.sin(np.pi * start))
            )
            loss = physics + 10.0 * given
            scaled = loss / replicas()
        weights = self.trainable_variables
        gradients = tape.gradient(scaled, weights)
        self.optimizer.apply(gradients, weights)
        self.loss_tracker.update_state(loss, sample_weight=ops.shape(inside)[0])
        return {"loss": self.loss_tracker.result()}


def make(way):
    model = Heat()
    rate = keras.optimizers.schedules.ExponentialDecay(1e-2, 4, 0.9)
    model.compile(way.optimizer(keras.optimizers.Adam(rate)))
    return model


def data(batch):
    random = np.random.default_rng(0)
    inside = random.uniform(size=(53, 2)).astype("float32")
    start = random.uniform(size=(53, 1)).astype("float32")
    return stream(inside, start, batch=batch)


PROGRAM = Program(make, data, is_long=True)
