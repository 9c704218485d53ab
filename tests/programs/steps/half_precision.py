"""Mixed precision: a scaled loss in the example's own step."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from program import Program, stream


class OwnStep(keras.Model):
    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(y=y, y_pred=y_pred)
            scaled = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss)
            else:
                metric.update_state(y, y_pred)
        return {m.name: m.result() for m in self.metrics}


def make(way):
    inputs = keras.Input((8,))
    x = layers.Dense(16, activation="tanh")(inputs)
    x = layers.Dense(16, activation="tanh")(x)
    outputs = layers.Dense(3, dtype="float32")(x)
    model = OwnStep(inputs, outputs)
    model.compile(
        way.optimizer(keras.optimizers.SGD(0.1, momentum=0.9)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def data(batch):
    random = np.random.default_rng(0)
    x = random.normal(size=(48, 8)).astype("float32")
    return stream(x, random.integers(0, 3, 48), batch=batch)


PROGRAM = Program(make, data, dtype="mixed_float16", tolerance=5e-3, logs=2e-2)
