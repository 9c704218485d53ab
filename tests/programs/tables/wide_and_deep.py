"""Structured data: a dict of columns, normalised, looked up, wide and deep."""

import keras
import numpy as np
from keras import layers
from program import Program, stream

COLOURS = ["red", "green", "blue"]


def columns():
    random = np.random.default_rng(0)
    return {
        "age": random.normal(40, 15, (53, 1)).astype("float32"),
        "hours": random.uniform(0, 60, (53, 1)).astype("float32"),
        "colour": np.array(COLOURS)[random.integers(0, 3, (53, 1))],
        "code": random.integers(0, 100, (53, 1)).astype("int32"),
    }


def make(way):
    given = columns()
    inputs, parts = {}, []
    for name in ("age", "hours"):
        inputs[name] = keras.Input((1,), name=name)
        normalise = layers.Normalization()
        normalise.adapt(given[name])
        parts.append(normalise(inputs[name]))
    inputs["colour"] = keras.Input((1,), dtype="string", name="colour")
    lookup = layers.StringLookup(vocabulary=COLOURS, output_mode="one_hot")
    parts.append(lookup(inputs["colour"]))
    inputs["code"] = keras.Input((1,), dtype="int32", name="code")
    hashed = layers.Hashing(num_bins=8)(inputs["code"])
    parts.append(layers.Flatten()(layers.Embedding(8, 3)(hashed)))
    wide = layers.Concatenate()(parts)
    deep = layers.Dense(8, activation="gelu")(wide)
    outputs = layers.Dense(1, activation="sigmoid")(
        layers.Concatenate()([wide, deep])
    )
    model = keras.Model(inputs, outputs)
    model.compile(
        way.optimizer(keras.optimizers.Adam(1e-2)),
        "binary_crossentropy",
        metrics=["accuracy", keras.metrics.AUC(name="auc")],
    )
    return model


def data(batch):
    given = columns()
    y = (given["age"] > 40).astype("float32")
    return stream(given, y, batch=batch)


PROGRAM = Program(make, data, is_long=True)
