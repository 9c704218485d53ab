"""VQ-VAE: nearest codes, a straight-through gradient, losses of a layer."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from program import Program, replicas, stream


class VectorQuantizer(layers.Layer):
    def __init__(self, codes, dim, beta=0.25):
        super().__init__()
        self.dim = dim
        self.beta = beta
        self.embeddings = self.add_weight(
            shape=(dim, codes), initializer="random_uniform", name="codes"
        )

    def call(self, x):
        flat = ops.reshape(x, (-1, self.dim))
        similarity = ops.matmul(flat, self.embeddings)
        distances = (
            ops.sum(flat**2, axis=1, keepdims=True)
            + ops.sum(self.embeddings**2, axis=0)
            - 2 * similarity
        )
        chosen = ops.one_hot(
            ops.argmin(distances, axis=1), self.embeddings.shape[1]
        )
        quantized = ops.matmul(chosen, ops.transpose(self.embeddings))
        quantized = ops.reshape(quantized, ops.shape(x))
        commitment = ops.mean((ops.stop_gradient(quantized) - x) ** 2)
        codebook = ops.mean((quantized - ops.stop_gradient(x)) ** 2)
        self.add_loss(self.beta * commitment + codebook)
        return x + ops.stop_gradient(quantized - x)


class VQVAETrainer(keras.Model):
    def __init__(self, vqvae, variance):
        super().__init__()
        self.vqvae = vqvae
        self.variance = variance
        self.total_loss_tracker = keras.metrics.Mean(name="loss")
        self.vq_loss_tracker = keras.metrics.Mean(name="vqvae_loss")

    @property
    def metrics(self):
        return [self.total_loss_tracker, self.vq_loss_tracker]

    def train_step(self, x):
        with tf.GradientTape() as tape:
            reconstructions = self.vqvae(x)
            loss = ops.mean((x - reconstructions) ** 2) / self.variance
            vq_loss = sum(self.vqvae.losses)
            total = loss + vq_loss
            scaled = total / replicas()
        weights = self.vqvae.trainable_variables
        self.optimizer.apply_gradients(
            zip(tape.gradient(scaled, weights), weights, strict=True)
        )
        self.total_loss_tracker.update_state(total)
        self.vq_loss_tracker.update_state(vq_loss)
        return {m.name: m.result() for m in self.metrics}


def images():
    return np.random.default_rng(0).normal(size=(48, 8)).astype("float32")


def make(way):
    vqvae = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(16, "gelu"),
            layers.Dense(8),
            VectorQuantizer(6, 4),
            layers.Dense(16, "gelu"),
            layers.Dense(8),
        ]
    )
    model = VQVAETrainer(vqvae, float(images().var()))
    model.compile(way.optimizer(keras.optimizers.SGD(0.02, momentum=0.9)))
    return model


def data(batch):
    return stream(images(), batch=batch)


PROGRAM = Program(make, data, fit={"epochs": 3}, is_long=True)
