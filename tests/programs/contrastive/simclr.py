"""SimCLR: two views of each sample; all others of the batch are negatives."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from program import Program, Refused, replicas, stream


class ContrastiveModel(keras.Model):
    def __init__(self, gather):
        super().__init__()
        self.temperature = 0.1
        self.gather = gather
        self.encoder = keras.Sequential(
            [
                keras.Input((10,)),
                layers.Dense(16, activation="gelu"),
                layers.Dense(8, activation="gelu"),
            ],
            name="encoder",
        )
        self.projection_head = keras.Sequential(
            [
                keras.Input((8,)),
                layers.Dense(8, activation="gelu"),
                layers.Dense(6),
            ],
            name="projection_head",
        )

    def compile(self, contrastive_optimizer, **kwargs):
        super().compile(**kwargs)
        self.contrastive_optimizer = contrastive_optimizer
        self.loss_tracker = keras.metrics.Mean(name="c_loss")

    @property
    def metrics(self):
        return [self.loss_tracker]

    def contrastive_loss(self, first, second):
        first = self.gather(ops.normalize(first, axis=1))
        second = self.gather(ops.normalize(second, axis=1))
        similarities = ops.matmul(first, ops.transpose(second))
        similarities /= self.temperature
        labels = ops.arange(ops.shape(first)[0])
        one_way = keras.losses.sparse_categorical_crossentropy(
            labels, similarities, from_logits=True
        )
        other_way = keras.losses.sparse_categorical_crossentropy(
            labels, ops.transpose(similarities), from_logits=True
        )
        return ops.mean(one_way + other_way) / 2

    def train_step(self, data):
        with tf.GradientTape() as tape:
            first, second = (
                self.projection_head(self.encoder(view, training=True))
                for view in (data["first"], data["second"])
            )
            loss = self.contrastive_loss(first, second)
            scaled = loss / replicas()
        weights = (
            self.encoder.trainable_weights
            + self.projection_head.trainable_weights
        )
        gradients = tape.gradient(scaled, weights)
        self.contrastive_optimizer.apply_gradients(
            zip(gradients, weights, strict=True)
        )
        self.loss_tracker.update_state(loss)
        return {m.name: m.result() for m in self.metrics}


def make(way):
    model = ContrastiveModel(way.gather)
    model.compile(way.optimizer(keras.optimizers.Adam(5e-3, epsilon=1e-4)))
    return model


def data(batch):
    random = np.random.default_rng(0)
    x = random.normal(size=(48, 10))
    noise = 0.3 * random.normal(size=(2, 48, 10))
    first, second = (x + noise).astype("float32")
    return stream({"first": first, "second": second}, batch=batch)


PROGRAM = Program(
    make, data, differs={"accumulating": Refused("whole.*batch")}, is_long=True
)
