"""A `PyDataset` of two threads that is read in order."""

import keras
import numpy as np
from keras import layers
from program import Program


class Shards(keras.utils.PyDataset):
    def __init__(self, x, y, batch, **kwargs):
        super().__init__(**kwargs)
        self.x, self.y, self.batch = x, y, batch

    def __len__(self):
        return -(-len(self.x) // self.batch)

    def __getitem__(self, index):
        rows = slice(index * self.batch, (index + 1) * self.batch)
        return self.x[rows].copy(), self.y[rows].copy()


def make(way):
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(12, "gelu"), layers.Dense(1)]
    )
    model.compile(
        way.optimizer(keras.optimizers.Adam(1e-2)), "mse", metrics=["mae"]
    )
    return model


def data(batch):
    random = np.random.default_rng(0)
    x = random.normal(size=(53, 6)).astype("float32")
    y = x[:, :1] * x[:, 1:2]
    return {"x": Shards(x, y, batch, workers=2), "shuffle": False}


PROGRAM = Program(make, data, fit={"epochs": 3}, is_long=True)
