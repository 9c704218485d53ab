"""WGAN-GP: two critic updates a step, and a penalty on a gradient."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from program import Program, Refused, replicas, stream


class WGAN(keras.Model):
    def __init__(self, critic, generator, critic_steps=2, penalty=10.0):
        super().__init__()
        self.critic = critic
        self.generator = generator
        self.critic_steps = critic_steps
        self.penalty = penalty

    def compile(self, critic_optimizer, generator_optimizer):
        super().compile()
        self.critic_optimizer = critic_optimizer
        self.generator_optimizer = generator_optimizer
        self.critic_tracker = keras.metrics.Mean(name="critic_loss")
        self.generator_tracker = keras.metrics.Mean(name="generator_loss")

    @property
    def metrics(self):
        return [self.critic_tracker, self.generator_tracker]

    def gradient_penalty(self, real, fake, mix):
        between = real + mix * (fake - real)
        with tf.GradientTape() as tape:
            tape.watch(between)
            judged = self.critic(between, training=True)
        grads = tape.gradient(judged, between)
        norm = ops.sqrt(ops.sum(ops.square(grads), axis=1) + 1e-6)
        return ops.mean((norm - 1.0) ** 2)

    def train_step(self, data):
        real, mix = data["real"], data["mix"]
        for i in range(self.critic_steps):
            fake = self.generator(data["noise"][:, i], training=True)
            with tf.GradientTape() as tape:
                loss = ops.mean(self.critic(fake)) - ops.mean(self.critic(real))
                loss += self.penalty * self.gradient_penalty(real, fake, mix)
                scaled = loss / replicas()
            weights = self.critic.trainable_variables
            self.critic_optimizer.apply_gradients(
                zip(tape.gradient(scaled, weights), weights, strict=True)
            )
        self.critic_tracker.update_state(loss)
        with tf.GradientTape() as tape:
            fake = self.generator(data["noise"][:, -1], training=True)
            loss = -ops.mean(self.critic(fake, training=True))
            scaled = loss / replicas()
        weights = self.generator.trainable_variables
        self.generator_optimizer.apply_gradients(
            zip(tape.gradient(scaled, weights), weights, strict=True)
        )
        self.generator_tracker.update_state(loss)
        return {m.name: m.result() for m in self.metrics}


def make(way):
    critic = keras.Sequential(
        [keras.Input((6,)), layers.Dense(16, "gelu"), layers.Dense(1)]
    )
    generator = keras.Sequential(
        [keras.Input((3,)), layers.Dense(8, "gelu"), layers.Dense(6)]
    )
    model = WGAN(critic, generator)
    model.compile(
        way.optimizer(keras.optimizers.Adam(2e-3, beta_1=0.5, beta_2=0.9)),
        way.optimizer(keras.optimizers.Adam(2e-3, beta_1=0.5, beta_2=0.9)),
    )
    return model


def data(batch):
    random = np.random.default_rng(0)
    return stream(
        {
            "real": random.normal(1, 0.5, (48, 6)).astype("float32"),
            "noise": random.normal(size=(48, 3, 3)).astype("float32"),
            "mix": random.uniform(size=(48, 1)).astype("float32"),
        },
        batch=batch,
    )


PROGRAM = Program(
    make,
    data,
    differs={"accumulating": Refused("(?i)apply.*(twice|several|once)")},
    is_long=True,
)
