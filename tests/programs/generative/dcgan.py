"""DCGAN: two networks, two optimizers, a step of its own, and no `call`."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from program import Other, Program, stream


class GAN(keras.Model):
    def __init__(self, discriminator, generator):
        super().__init__()
        self.discriminator = discriminator
        self.generator = generator

    def compile(self, d_optimizer, g_optimizer, loss_fn):
        super().compile()
        self.d_optimizer = d_optimizer
        self.g_optimizer = g_optimizer
        self.loss_fn = loss_fn
        self.d_loss_metric = keras.metrics.Mean(name="d_loss")
        self.g_loss_metric = keras.metrics.Mean(name="g_loss")

    @property
    def metrics(self):
        return [self.d_loss_metric, self.g_loss_metric]

    def train_step(self, data):
        real, noise = data["image"], data["noise"]
        size = ops.shape(real)[0]
        combined = ops.concatenate([self.generator(noise), real], axis=0)
        labels = ops.concatenate(
            [ops.ones((size, 1)), ops.zeros((size, 1))], axis=0
        )
        with tf.GradientTape() as tape:
            d_loss = self.loss_fn(labels, self.discriminator(combined))
        weights = self.discriminator.trainable_weights
        grads = tape.gradient(d_loss, weights)
        self.d_optimizer.apply_gradients(zip(grads, weights, strict=True))
        with tf.GradientTape() as tape:
            predictions = self.discriminator(self.generator(noise))
            g_loss = self.loss_fn(ops.zeros((size, 1)), predictions)
        weights = self.generator.trainable_weights
        grads = tape.gradient(g_loss, weights)
        self.g_optimizer.apply_gradients(zip(grads, weights, strict=True))
        self.d_loss_metric.update_state(d_loss)
        self.g_loss_metric.update_state(g_loss)
        return {
            "d_loss": self.d_loss_metric.result(),
            "g_loss": self.g_loss_metric.result(),
        }


def make(way):
    discriminator = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, strides=2, padding="same"),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    generator = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(4 * 4 * 2),
            layers.Reshape((4, 4, 2)),
            layers.Conv2DTranspose(4, 4, strides=2, padding="same"),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Conv2D(1, 3, padding="same", activation="sigmoid"),
        ]
    )
    gan = GAN(discriminator, generator)
    gan.compile(
        way.optimizer(keras.optimizers.Adam(1e-3, beta_1=0.5)),
        way.optimizer(keras.optimizers.Adam(1e-3, beta_1=0.5)),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    return gan


def data(batch):
    random = np.random.default_rng(0)
    return stream(
        {
            "image": random.uniform(size=(48, 8, 8, 1)).astype("float32"),
            "noise": random.normal(size=(48, 4)).astype("float32"),
        },
        batch=batch,
    )


PROGRAM = Program(
    make,
    data,
    differs={
        "accumulating": Other("the discriminator judges before its update")
    },
    is_long=True,
)
