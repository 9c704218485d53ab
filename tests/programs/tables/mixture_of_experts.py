"""A mixture of experts: each sample is gated for itself."""

import keras
import numpy as np
from keras import layers, ops
from program import Program, stream


class Mixture(layers.Layer):
    def __init__(self, experts, units):
        super().__init__()
        self.experts = [layers.Dense(units, "gelu") for _ in range(experts)]
        self.gate = layers.Dense(experts, use_bias=False)

    def call(self, x):
        probabilities = ops.softmax(self.gate(x))
        best, _ = ops.top_k(probabilities, 2)
        kept = ops.where(probabilities >= best[:, -1:], probabilities, 0.0)
        kept = kept / ops.sum(kept, axis=-1, keepdims=True)
        answers = ops.stack([expert(x) for expert in self.experts], axis=1)
        return ops.sum(kept[..., None] * answers, axis=1)


def make(way):
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layers.Dense(1)(Mixture(3, 8)(inputs)))
    model.compile(
        way.optimizer(keras.optimizers.Adam(1e-2)), "mse", metrics=["mae"]
    )
    return model


def data(batch):
    random = np.random.default_rng(0)
    x = random.normal(size=(53, 6)).astype("float32")
    return stream(x, np.abs(x).sum(axis=1, keepdims=True), batch=batch)


PROGRAM = Program(make, data, is_long=True)
