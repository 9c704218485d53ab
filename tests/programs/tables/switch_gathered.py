"""A switch whose balance is that of all samples of the batch, gathered."""

import keras
import numpy as np
from keras import layers, ops
from program import Program, Refused, stream


class Switch(layers.Layer):
    def __init__(self, experts, units, gather):
        super().__init__()
        self.gather = gather
        self.count = experts
        self.experts = [layers.Dense(units, "gelu") for _ in range(experts)]
        self.route = layers.Dense(experts)

    def call(self, x):
        probabilities = ops.softmax(self.route(x))
        chosen = ops.one_hot(ops.argmax(probabilities, axis=-1), self.count)
        load = ops.mean(self.gather(chosen), axis=0)
        load *= ops.mean(self.gather(probabilities), axis=0)
        self.add_loss(0.5 * self.count * ops.sum(load))
        answers = ops.stack([expert(x) for expert in self.experts], axis=1)
        gate = (chosen * probabilities)[..., None]
        return ops.sum(gate * answers, axis=1)


def make(way):
    inputs = keras.Input((6,))
    model = keras.Model(
        inputs, layers.Dense(1)(Switch(3, 8, way.gather)(inputs))
    )
    model.compile(way.optimizer(keras.optimizers.Adam(1e-2)), "mse")
    return model


def data(batch):
    random = np.random.default_rng(0)
    x = random.normal(size=(53, 6)).astype("float32")
    return stream(x, np.abs(x).mean(axis=1, keepdims=True), batch=batch)


PROGRAM = Program(
    make, data, differs={"accumulating": Refused("whole.*batch")}, is_long=True
)
