"""Forward-forward: each layer trains itself, with an optimizer of its own."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from program import Other, Program, replicas, stream


class FFDense(layers.Layer):
    def __init__(self, units, optimizer, threshold=1.5):
        super().__init__()
        self.dense = layers.Dense(units, activation="relu")
        self.optimizer = optimizer
        self.threshold = threshold
        self.loss_metric = keras.metrics.Mean(name="loss")

    def call(self, x):
        norm = ops.norm(x, ord=2, axis=1, keepdims=True) + 1e-4
        return self.dense(x / norm)

    def forward_forward(self, x_pos, x_neg):
        with tf.GradientTape() as tape:
            g_pos = ops.mean(ops.power(self.call(x_pos), 2), 1)
            g_neg = ops.mean(ops.power(self.call(x_neg), 2), 1)
            each = ops.concatenate(
                [self.threshold - g_pos, g_neg - self.threshold], 0
            )
            loss = ops.mean(ops.softplus(each))
            scaled = loss / replicas()
        weights = self.dense.trainable_weights
        gradients = tape.gradient(scaled, weights)
        self.optimizer.apply_gradients(zip(gradients, weights, strict=True))
        self.loss_metric.update_state(loss)
        return (
            ops.stop_gradient(self.call(x_pos)),
            ops.stop_gradient(self.call(x_neg)),
            self.loss_metric.result(),
        )


class FFNetwork(keras.Model):
    def __init__(self, dims, make_optimizer):
        super().__init__()
        self.loss_var = keras.metrics.Mean(name="loss")
        self.layer_list = [FFDense(d, make_optimizer()) for d in dims]

    def call(self, x):
        for layer in self.layer_list:
            x = layer(x)
        return x

    def overlay(self, x, y):
        return ops.concatenate([ops.one_hot(y, 4), x[:, 4:]], axis=1)

    def train_step(self, data):
        x, y, wrong = data
        h_pos, h_neg = self.overlay(x, y), self.overlay(x, wrong)
        losses = []
        for layer in self.layer_list:
            h_pos, h_neg, loss = layer.forward_forward(h_pos, h_neg)
            losses.append(loss)
        return {f"loss_{i}": loss for i, loss in enumerate(losses)}


def make(way):
    model = FFNetwork(
        [12, 8],
        lambda: way.optimizer(keras.optimizers.Adam(2e-2, epsilon=1e-4)),
    )
    model.compile()
    return model


def data(batch):
    random = np.random.default_rng(0)
    x = random.normal(size=(48, 10)).astype("float32")
    y = random.integers(0, 4, 48).astype("int32")
    return stream(x, y, (y + 1) % 4, batch=batch)


PROGRAM = Program(
    make,
    data,
    differs={"accumulating": Other("a layer feeds the next before its update")},
    is_long=True,
)
