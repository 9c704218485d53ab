"""Collaborative filtering: embeddings of a subclassed model, and biases."""

import keras
import numpy as np
from keras import layers, ops
from program import Program


class RecommenderNet(keras.Model):
    def __init__(self, users, films, dim):
        super().__init__()

        def table(count, dim, **kwargs):
            return layers.Embedding(count, dim, **kwargs)

        l2 = keras.regularizers.l2(1e-3)
        he = "he_normal"
        self.users = table(
            users, dim, embeddings_initializer=he, embeddings_regularizer=l2
        )
        self.user_bias = table(users, 1)
        self.films = table(
            films, dim, embeddings_initializer=he, embeddings_regularizer=l2
        )
        self.film_bias = table(films, 1)

    def call(self, inputs):
        user, film = inputs[:, 0], inputs[:, 1]
        dot = ops.sum(
            self.users(user) * self.films(film), axis=-1, keepdims=True
        )
        return ops.sigmoid(dot + self.user_bias(user) + self.film_bias(film))


def make(way):
    model = RecommenderNet(15, 20, 6)
    model.compile(
        way.optimizer(keras.optimizers.SGD(0.5, momentum=0.9)),
        keras.losses.BinaryCrossentropy(),
    )
    return model


def data(batch):
    random = np.random.default_rng(0)
    x = random.integers(0, 15, (53, 2))
    y = random.uniform(size=53).astype("float32")
    return {
        "x": x,
        "y": y,
        "batch_size": batch,
        "shuffle": False,
        "validation_data": (x[:20], y[:20]),
    }


PROGRAM = Program(make, data, is_long=True)
