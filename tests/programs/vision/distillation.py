"""Distillation: a frozen teacher, and a loss made of two in `compute_loss`."""

import keras
import numpy as np
from keras import layers, ops
from program import Program, stream


class Distiller(keras.Model):
    def __init__(self, student, teacher):
        super().__init__()
        self.teacher = teacher
        self.student = student

    def compile(
        self, optimizer, metrics, student_loss_fn, distillation_loss_fn
    ):
        super().compile(optimizer=optimizer, metrics=metrics)
        self.student_loss_fn = student_loss_fn
        self.distillation_loss_fn = distillation_loss_fn
        self.alpha = 0.3
        self.temperature = 4.0

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, **kwargs
    ):
        teacher_pred = self.teacher(x, training=False)
        student_loss = self.student_loss_fn(y, y_pred)
        distillation_loss = self.distillation_loss_fn(
            ops.softmax(teacher_pred / self.temperature, axis=1),
            ops.softmax(y_pred / self.temperature, axis=1),
        ) * (self.temperature**2)
        return self.alpha * student_loss + (1 - self.alpha) * distillation_loss

    def call(self, x):
        return self.student(x)


def network(filters):
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(filters, 3, strides=2, padding="same"),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Conv2D(filters, 3, strides=2, padding="same"),
            layers.Flatten(),
            layers.Dense(5),
        ]
    )


def make(way):
    teacher = network(8)
    teacher.trainable = False
    model = Distiller(network(3), teacher)
    model.compile(
        way.optimizer(keras.optimizers.Adam(5e-3)),
        [keras.metrics.SparseCategoricalAccuracy()],
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        keras.losses.KLDivergence(),
    )
    return model


def data(batch):
    random = np.random.default_rng(0)
    x = random.uniform(-1, 1, (53, 8, 8, 1)).astype("float32")
    return stream(x, random.integers(0, 5, 53), batch=batch)


PROGRAM = Program(make, data, is_long=True)
