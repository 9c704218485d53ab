"""Denoising diffusion: a network, and its moving average kept by the step."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from program import Other, Program, stream

EMA = 0.9


class DiffusionModel(keras.Model):
    def __init__(self, network):
        super().__init__()
        self.normalizer = layers.Normalization()
        self.network = network
        self.ema_network = keras.models.clone_model(network)
        self.ema_network.set_weights(network.get_weights())

    def compile(self, **kwargs):
        super().compile(**kwargs)
        self.noise_loss_tracker = keras.metrics.Mean(name="n_loss")
        self.image_loss_tracker = keras.metrics.Mean(name="i_loss")

    @property
    def metrics(self):
        return [self.noise_loss_tracker, self.image_loss_tracker]

    def diffused(self, data):
        images = self.normalizer(data["image"], training=True)
        angle = ops.arccos(0.95) + data["time"] * (
            ops.arccos(0.02) - ops.arccos(0.95)
        )
        return images, data["noise"], ops.sin(angle), ops.cos(angle)

    def denoise(self, noisy, noise_rates, signal_rates, training):
        network = self.network if training else self.ema_network
        pred_noises = network([noisy, noise_rates**2], training=training)
        pred_images = (noisy - noise_rates * pred_noises) / signal_rates
        return pred_noises, pred_images

    def losses_of(self, data, training):
        images, noises, noise_rates, signal_rates = self.diffused(data)
        noisy = signal_rates * images + noise_rates * noises
        pred_noises, pred_images = self.denoise(
            noisy, noise_rates, signal_rates, training
        )
        return self.loss(noises, pred_noises), self.loss(images, pred_images)

    def train_step(self, data):
        with tf.GradientTape() as tape:
            noise_loss, image_loss = self.losses_of(data, training=True)
        weights = self.network.trainable_weights
        gradients = tape.gradient(noise_loss, weights)
        self.optimizer.apply_gradients(zip(gradients, weights, strict=True))
        self.noise_loss_tracker.update_state(noise_loss)
        self.image_loss_tracker.update_state(image_loss)
        for weight, ema_weight in zip(
            self.network.weights, self.ema_network.weights, strict=True
        ):
            ema_weight.assign(EMA * ema_weight + (1 - EMA) * weight)
        return {m.name: m.result() for m in self.metrics}

    def test_step(self, data):
        noise_loss, image_loss = self.losses_of(data, training=False)
        self.noise_loss_tracker.update_state(noise_loss)
        self.image_loss_tracker.update_state(image_loss)
        return {m.name: m.result() for m in self.metrics}


def images():
    return np.random.default_rng(1).normal(2, 3, (48, 6)).astype("float32")


def make(way):
    noisy, variance = keras.Input((6,)), keras.Input((1,))
    x = layers.Concatenate()([noisy, layers.Dense(4, "tanh")(variance)])
    x = layers.Dense(16, activation="swish")(x)
    model = DiffusionModel(keras.Model([noisy, variance], layers.Dense(6)(x)))
    model.normalizer.adapt(images())
    model.compile(
        optimizer=way.optimizer(
            keras.optimizers.AdamW(5e-3, weight_decay=1e-4)
        ),
        loss=keras.losses.MeanAbsoluteError(),
    )
    return model


def data(batch):
    random = np.random.default_rng(0)
    given = {
        "image": images(),
        "noise": random.normal(size=(48, 6)).astype("float32"),
        "time": random.uniform(size=(48, 1)).astype("float32"),
    }
    train = stream(given, batch=batch)
    held_out = {key: value[:16] for key, value in given.items()}
    return train | {"validation_data": stream(held_out, batch=8)["x"]}


PROGRAM = Program(
    make,
    data,
    differs={"accumulating": Other("its average moves with each micro-batch")},
    is_long=True,
)
