"""Two datasets in one step: labelled ones, and ones without labels."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from problem import untuned
from program import Program, replicas


class SemiSupervised(keras.Model):
    """Labels what it is sure of by itself, by AdaMatch's rule."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.loss_tracker = keras.metrics.Mean(name="loss")

    @property
    def metrics(self):
        return [self.loss_tracker]

    def train_step(self, data):
        labelled, (weak, strong) = data
        x, y = labelled["x"], labelled["y"]
        guess = ops.softmax(self.network(weak, training=False))
        is_sure = ops.cast(ops.max(guess, axis=1) > 0.4, "float32")
        with tf.GradientTape() as tape:
            known = keras.losses.sparse_categorical_crossentropy(
                y, self.network(x, training=True), from_logits=True
            )
            guessed = keras.losses.sparse_categorical_crossentropy(
                ops.argmax(guess, axis=1),
                self.network(strong, training=True),
                from_logits=True,
            )
            loss = ops.mean(known) + ops.mean(guessed * is_sure)
            scaled = loss / replicas()
        weights = self.network.trainable_variables
        self.optimizer.apply(tape.gradient(scaled, weights), weights)
        self.loss_tracker.update_state(loss)
        return {"loss": self.loss_tracker.result()}


def make(way):
    network = keras.Sequential(
        [keras.Input((6,)), layers.Dense(12, "gelu"), layers.Dense(3)]
    )
    model = SemiSupervised(network)
    model.compile(way.optimizer(keras.optimizers.Adam(1e-2)))
    return model


def data(batch):
    random = np.random.default_rng(0)
    x = random.normal(size=(48, 6)).astype("float32")
    more = random.normal(size=(2, 48, 6)).astype("float32")
    labelled = tf.data.Dataset.from_tensor_slices(
        {"x": x, "y": x[:, :3].argmax(axis=1)}
    )
    others = tf.data.Dataset.from_tensor_slices(
        (more[0], more[0] + 0.2 * more[1])
    )
    both = tf.data.Dataset.zip(
        (labelled.batch(batch), others.repeat().batch(batch))
    )
    return {"x": untuned(both)}


PROGRAM = Program(make, data, is_long=True)
