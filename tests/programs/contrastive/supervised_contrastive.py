"""Supervised contrastive learning, then a classifier on a frozen encoder."""

import keras
import numpy as np
from keras import layers, ops
from program import Program, Refused, stream


class SupervisedContrastiveLoss(keras.losses.Loss):
    def __init__(self, temperature=0.5, name=None):
        super().__init__(name=name)
        self.temperature = temperature

    def call(self, labels, features):
        features = ops.normalize(features, axis=1)
        logits = ops.matmul(features, ops.transpose(features))
        logits /= self.temperature
        same = ops.cast(ops.equal(labels, ops.transpose(labels)), "float32")
        others = 1 - ops.eye(ops.shape(features)[0])
        log_prob = logits - ops.log(
            ops.sum(ops.exp(logits) * others, axis=1, keepdims=True)
        )
        positives = ops.maximum(ops.sum(same * others, axis=1), 1)
        return -ops.sum(same * others * log_prob, axis=1) / positives


def make(way):
    encoder = keras.Sequential(
        [
            keras.Input((10,)),
            layers.Dense(16, activation="gelu"),
            layers.Dense(8, activation="gelu"),
        ],
        name="encoder",
    )
    inputs = keras.Input((10,))
    model = keras.Model(inputs, layers.Dense(6, name="head")(encoder(inputs)))
    model.compile(
        way.optimizer(keras.optimizers.Adam(5e-3)),
        way.loss(SupervisedContrastiveLoss(), over="batch"),
    )
    return model


def classify(model, way):
    model.get_layer("encoder").trainable = False
    model.compile(
        way.optimizer(keras.optimizers.Adam(5e-3)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )


def data(batch):
    random = np.random.default_rng(0)
    x = random.normal(size=(53, 10)).astype("float32")
    y = (x[:, :1] > 0).astype("int32") + 2 * (x[:, 1:2] > 0)
    return stream(x, y, batch=batch)


PROGRAM = Program(
    make,
    data,
    then=classify,
    differs={"accumulating": Refused("whole.*batch")},
    is_long=True,
)
