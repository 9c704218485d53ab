"""A detection head: a dict of outputs, three losses, weights, two metrics."""

import keras
import numpy as np
from keras import layers
from program import Program, stream


def make(way):
    inputs = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, 2, "same", activation="swish")(inputs)
    x = layers.Conv2D(6, 3, 2, "same", activation="swish")(x)
    anchors = layers.Reshape((4, 6))(x)
    boxes = layers.Dense(4, name="boxes")(anchors)
    classes = layers.Dense(3, activation="sigmoid", name="classes")(anchors)
    count = layers.Dense(1, name="count")(layers.Flatten()(x))
    model = keras.Model(
        {"image": inputs}, {"boxes": boxes, "classes": classes, "count": count}
    )
    model.compile(
        way.optimizer(keras.optimizers.SGD(0.05, momentum=0.9, clipnorm=10.0)),
        loss={
            "boxes": keras.losses.Huber(),
            "classes": keras.losses.BinaryFocalCrossentropy(),
            "count": "mse",
        },
        loss_weights={"boxes": 1.0, "classes": 2.0, "count": 0.1},
        metrics={"boxes": ["mae"], "classes": [keras.metrics.AUC(name="auc")]},
    )
    return model


def data(batch):
    random = np.random.default_rng(0)
    x = random.uniform(size=(48, 8, 8, 3)).astype("float32")
    is_object = random.integers(0, 2, (48, 4)).astype("float32")
    labels = {
        "boxes": random.normal(size=(48, 4, 4)).astype("float32"),
        "classes": random.integers(0, 2, (48, 4, 3)).astype("float32"),
        "count": is_object.sum(axis=1, keepdims=True),
    }
    weights = {
        "boxes": is_object,
        "classes": np.ones((48, 4), "float32"),
        "count": np.linspace(0, 2, 48).astype("float32"),
    }
    return stream({"image": x}, labels, weights, batch=batch)


PROGRAM = Program(make, data, is_long=True)
