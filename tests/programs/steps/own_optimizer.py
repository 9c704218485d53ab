"""An optimizer of one's own, with an argument and a slot."""

import keras
import numpy as np
from keras import layers, ops
from program import Program, stream


class Yogi(keras.optimizers.Optimizer):
    """After Keras's guide to optimizers, without a `get_config`."""

    def __init__(self, learning_rate=0.01, beta=0.99, factor=1.0, **kwargs):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.beta = beta
        self.factor = factor

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._second = [
            self.add_variable_from_reference(v, "second") for v in variables
        ]

    def update_step(self, gradient, variable, learning_rate):
        rate = ops.cast(learning_rate, variable.dtype) * self.factor
        second = self._second[self._get_variable_index(variable)]
        square = ops.square(gradient)
        change = (1 - self.beta) * ops.sign(square - second) * square
        self.assign_add(second, change)
        self.assign_sub(variable, rate * gradient / (ops.sqrt(second) + 1e-2))


def make(way):
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(12, "tanh"), layers.Dense(1)]
    )
    model.compile(way.optimizer(Yogi(0.02, beta=0.9, factor=0.5)), "mse")
    return model


def data(batch):
    random = np.random.default_rng(0)
    x = random.normal(size=(53, 6)).astype("float32")
    return stream(x, x[:, :1] * x[:, 1:2], batch=batch)


PROGRAM = Program(make, data, is_long=True)
