"""Triplets: three looks at one network, trained and tested by own steps."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from program import Program, replicas, stream


class DistanceLayer(layers.Layer):
    def call(self, anchor, positive, negative):
        ap = ops.sum(ops.square(anchor - positive), -1)
        an = ops.sum(ops.square(anchor - negative), -1)
        return ap, an


class SiameseModel(keras.Model):
    def __init__(self, siamese_network, margin=0.5):
        super().__init__()
        self.siamese_network = siamese_network
        self.margin = margin
        self.loss_tracker = keras.metrics.Mean(name="loss")

    def call(self, inputs):
        return self.siamese_network(inputs)

    def train_step(self, data):
        with tf.GradientTape() as tape:
            loss = self._compute_loss(data)
            scaled = loss / replicas()
        weights = self.siamese_network.trainable_weights
        gradients = tape.gradient(scaled, weights)
        self.optimizer.apply_gradients(zip(gradients, weights, strict=True))
        self.loss_tracker.update_state(loss)
        return {"loss": self.loss_tracker.result()}

    def test_step(self, data):
        self.loss_tracker.update_state(self._compute_loss(data))
        return {"loss": self.loss_tracker.result()}

    def _compute_loss(self, data):
        ap, an = self.siamese_network(data)
        return ops.mean(ops.maximum(ap - an + self.margin, 0.0))

    @property
    def metrics(self):
        return [self.loss_tracker]


def make(way):
    embedding = keras.Sequential(
        [
            keras.Input((10,)),
            layers.Dense(16, activation="gelu"),
            layers.LayerNormalization(),
            layers.Dense(6),
        ],
        name="embedding",
    )
    three = [keras.Input((10,), name=n) for n in ("a", "p", "n")]
    distances = DistanceLayer()(*map(embedding, three))
    model = SiameseModel(keras.Model(three, distances))
    model.compile(
        optimizer=way.optimizer(keras.optimizers.Adam(5e-3, epsilon=1e-4))
    )
    return model


def data(batch):
    random = np.random.default_rng(0)
    parts = random.normal(size=(3, 48, 10)).astype("float32")
    parts[1] = parts[0] + 0.5 * parts[1]
    held_out = tuple(part[:16] for part in parts)
    return stream(tuple(parts), batch=batch) | {
        "validation_data": stream(held_out, batch=8)["x"]
    }


def as_one(arguments):
    """As zipped datasets of Keras's example: a batch is a triple."""
    return {
        key: data.map(lambda *three: three) for key, data in arguments.items()
    }


PROGRAM = Program(make, lambda batch: as_one(data(batch)), is_long=True)
