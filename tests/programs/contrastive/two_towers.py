"""A recommender of two towers: strings looked up, sampled negatives."""

import keras
import numpy as np
from keras import layers, ops
from program import Program, stream

USERS = [f"user {i}" for i in range(12)]


class Similarity(layers.Layer):
    """Of a user to one liked item and to some that were drawn."""

    def call(self, user, items):
        return ops.einsum("bd,bnd->bn", user, items)


def make(way):
    user = keras.Input((), dtype="string", name="user")
    items = keras.Input((5,), dtype="int32", name="items")
    age = keras.Input((1,), name="age")
    number = layers.StringLookup(vocabulary=USERS)(user)
    tower = layers.Embedding(len(USERS) + 1, 8)(number)
    tower = layers.Dense(8, "tanh")(layers.Concatenate()([tower, age]))
    liked = layers.Embedding(
        20, 8, embeddings_regularizer=keras.regularizers.L2(1e-3)
    )(items)
    liked = layers.Dense(8, "tanh")(liked)
    scores = Similarity()(tower, liked)
    model = keras.Model({"user": user, "items": items, "age": age}, scores)
    model.compile(
        way.optimizer(keras.optimizers.Adagrad(0.1)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseTopKCategoricalAccuracy(k=2)],
    )
    return model


def data(batch):
    random = np.random.default_rng(0)
    who = random.integers(0, len(USERS), 53)
    items = random.permuted(np.tile(np.arange(20), (53, 1)), axis=1)[:, :5]
    x = {
        "user": np.array(USERS)[who],
        "items": items.astype("int32"),
        "age": random.normal(size=(53, 1)).astype("float32"),
    }
    weights = random.uniform(0.5, 2, 53).astype("float32")
    return stream(x, np.zeros(53, "int32"), weights, batch=batch)


PROGRAM = Program(make, data, is_long=True)
