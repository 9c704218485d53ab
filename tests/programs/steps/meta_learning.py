"""MAML: each sample is a task, learned by one step inside of the step."""

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from program import Program, replicas, stream


class MAML(keras.Model):
    def __init__(self, units=8, inner_rate=0.1):
        super().__init__()
        shapes = [(1, units), (units,), (units, 1), (1,)]
        self.parts = [
            self.add_weight(shape=shape, initializer="glorot_uniform")
            if len(shape) == 2
            else self.add_weight(shape=shape, initializer="zeros")
            for shape in shapes
        ]
        self.inner_rate = inner_rate
        self.loss_tracker = keras.metrics.Mean(name="loss")

    @property
    def metrics(self):
        return [self.loss_tracker]

    def predict_with(self, parts, x):
        kernel, bias, out, out_bias = parts
        hidden = ops.tanh(ops.matmul(x, kernel) + bias)
        return ops.matmul(hidden, out) + out_bias

    def train_step(self, data):
        support_x, support_y, query_x, query_y = data
        size = ops.shape(support_x)[0]
        with tf.GradientTape() as outer:
            # A copy of the weights for each task.
            tasks = []
            for part in self.parts:
                part = ops.reshape(part, (1, -1, part.shape[-1]))
                tasks.append(ops.repeat(part, size, axis=0))
            with tf.GradientTape() as inner:
                inner.watch(tasks)
                error = self.predict_with(tasks, support_x) - support_y
                loss = ops.sum(ops.mean(ops.square(error), axis=(1, 2)))
            gradients = inner.gradient(loss, tasks)
            adapted = [
                task - self.inner_rate * gradient
                for task, gradient in zip(tasks, gradients, strict=True)
            ]
            error = self.predict_with(adapted, query_x) - query_y
            meta_loss = ops.mean(ops.square(error))
            scaled = meta_loss / replicas()
        gradients = outer.gradient(scaled, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        self.loss_tracker.update_state(meta_loss)
        return {"loss": self.loss_tracker.result()}


def make(way):
    model = MAML()
    model.compile(way.optimizer(keras.optimizers.Adam(1e-2)))
    return model


def data(batch):
    random = np.random.default_rng(0)
    phase = random.uniform(0, np.pi, (48, 1, 1))
    x = random.uniform(-2, 2, (2, 48, 5, 1))
    y = np.sin(x + phase)
    parts = (x[0], y[0], x[1], y[1])
    return stream(*(p.astype("float32") for p in parts), batch=batch)


PROGRAM = Program(make, data, is_long=True)
