"""Molecules: messages along ragged bonds, a GRU, classes of unequal weight."""

import keras
import numpy as np
from keras import layers, ops
from program import Program, stream


class MessagePassing(layers.Layer):
    def __init__(self, units, steps):
        super().__init__()
        self.steps = steps
        self.edge = layers.Dense(units * units)
        self.update = layers.GRUCell(units)
        self.units = units

    def call(self, atoms, bonds, pairs):
        shape = ops.shape(bonds)
        kernels = ops.reshape(
            self.edge(bonds), (shape[0], shape[1], self.units, self.units)
        )
        sends, receives = pairs[..., 0, :], pairs[..., 1, :]
        for _ in range(self.steps):
            neighbours = ops.matmul(sends, atoms)
            messages = ops.einsum("bpij,bpj->bpi", kernels, neighbours)
            gathered = ops.matmul(ops.transpose(receives, (0, 2, 1)), messages)
            flat, _ = self.update(
                ops.reshape(gathered, (-1, self.units)),
                [ops.reshape(atoms, (-1, self.units))],
            )
            atoms = ops.reshape(flat, ops.shape(atoms))
        return atoms


def make(way):
    atoms = keras.Input((4, 6), name="atoms")
    bonds = keras.Input((5, 3), name="bonds")
    pairs = keras.Input((5, 2, 4), name="pairs")
    x = MessagePassing(6, 2)(atoms, bonds, pairs)
    x = layers.GlobalAveragePooling1D()(x)
    x = layers.Dense(8, activation="gelu")(x)
    outputs = layers.Dense(1, activation="sigmoid")(x)
    model = keras.Model([atoms, bonds, pairs], outputs)
    model.compile(
        way.optimizer(keras.optimizers.Adam(5e-3)),
        keras.losses.BinaryCrossentropy(),
        metrics=[keras.metrics.AUC(name="AUC")],
    )
    return model


def data(batch):
    random = np.random.default_rng(0)
    atoms = random.normal(size=(53, 4, 6)).astype("float32")
    bonds = random.normal(size=(53, 5, 3)).astype("float32")
    ends = random.integers(0, 4, (53, 5, 2))
    is_bond = np.arange(5) < random.integers(1, 6, (53, 1))
    pairs = np.eye(4, dtype="float32")[ends] * is_bond[..., None, None]
    y = (random.uniform(size=53) < 0.3).astype("float32")
    return stream((atoms, bonds, pairs.astype("float32")), y, batch=batch)


PROGRAM = Program(
    make, data, fit={"class_weight": {0: 2.0, 1: 0.5}}, is_long=True
)
