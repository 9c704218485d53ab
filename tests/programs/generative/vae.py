"""Variational autoencoder: trackers in the step; what it samples is data."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from program import Program, replicas, stream


class VAE(keras.Model):
    def __init__(self, encoder, decoder):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.total_loss_tracker = keras.metrics.Mean(name="total_loss")
        self.reconstruction_loss_tracker = keras.metrics.Mean(
            name="reconstruction_loss"
        )
        self.kl_loss_tracker = keras.metrics.Mean(name="kl_loss")

    @property
    def metrics(self):
        return [
            self.total_loss_tracker,
            self.reconstruction_loss_tracker,
            self.kl_loss_tracker,
        ]

    def train_step(self, data):
        image, noise = data["image"], data["noise"]
        with tf.GradientTape() as tape:
            z_mean, z_log_var = self.encoder(image)
            z = z_mean + ops.exp(0.5 * z_log_var) * noise
            reconstruction = self.decoder(z)
            reconstruction_loss = ops.mean(
                ops.sum(
                    keras.losses.binary_crossentropy(image, reconstruction),
                    axis=(1, 2),
                )
            )
            kl_loss = -0.5 * (
                1 + z_log_var - ops.square(z_mean) - ops.exp(z_log_var)
            )
            kl_loss = ops.mean(ops.sum(kl_loss, axis=1))
            total_loss = reconstruction_loss + kl_loss
            scaled = total_loss / replicas()
        grads = tape.gradient(scaled, self.trainable_weights)
        self.optimizer.apply_gradients(
            zip(grads, self.trainable_weights, strict=True)
        )
        self.total_loss_tracker.update_state(total_loss)
        self.reconstruction_loss_tracker.update_state(reconstruction_loss)
        self.kl_loss_tracker.update_state(kl_loss)
        return {
            "loss": self.total_loss_tracker.result(),
            "reconstruction_loss": self.reconstruction_loss_tracker.result(),
            "kl_loss": self.kl_loss_tracker.result(),
        }


def make(way):
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(4, 3, strides=2, padding="same", activation="gelu")(
        inputs
    )
    x = layers.Flatten()(x)
    x = layers.Dense(8, activation="gelu")(x)
    encoder = keras.Model(
        inputs, [layers.Dense(2)(x), layers.Dense(2)(x)], name="encoder"
    )
    latent = keras.Input((2,))
    x = layers.Dense(4 * 4 * 2, activation="gelu")(latent)
    x = layers.Reshape((4, 4, 2))(x)
    x = layers.Conv2DTranspose(
        1, 3, strides=2, padding="same", activation="sigmoid"
    )(x)
    vae = VAE(encoder, keras.Model(latent, x, name="decoder"))
    vae.compile(way.optimizer(keras.optimizers.Adam(1e-2)))
    return vae


def data(batch):
    random = np.random.default_rng(0)
    return stream(
        {
            "image": random.uniform(size=(48, 8, 8, 1)).astype("float32"),
            "noise": random.normal(size=(48, 2)).astype("float32"),
        },
        batch=batch,
    )


PROGRAM = Program(make, data)
