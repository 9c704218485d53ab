"""CycleGAN: four networks, four optimizers, one persistent tape."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from program import Program, stream


class CycleGAN(keras.Model):
    def __init__(self, gen_g, gen_f, disc_x, disc_y):
        super().__init__()
        self.gen_g = gen_g
        self.gen_f = gen_f
        self.disc_x = disc_x
        self.disc_y = disc_y
        self.cycle_loss = keras.losses.MeanAbsoluteError()
        self.identity_loss = keras.losses.MeanAbsoluteError()
        self.adversarial_loss = keras.losses.MeanSquaredError()

    def call(self, inputs):
        return (
            self.disc_x(inputs[0]),
            self.disc_y(inputs[1]),
            self.gen_g(inputs[0]),
            self.gen_f(inputs[1]),
        )

    def compile(self, gen_g, gen_f, disc_x, disc_y):
        super().compile()
        self.gen_g_optimizer = gen_g
        self.gen_f_optimizer = gen_f
        self.disc_x_optimizer = disc_x
        self.disc_y_optimizer = disc_y

    def generator_loss(self, judged):
        return self.adversarial_loss(ops.ones_like(judged), judged)

    def discriminator_loss(self, real, fake):
        real_loss = self.adversarial_loss(ops.ones_like(real), real)
        fake_loss = self.adversarial_loss(ops.zeros_like(fake), fake)
        return (real_loss + fake_loss) * 0.5

    def train_step(self, data):
        real_x, real_y = data
        with tf.GradientTape(persistent=True) as tape:
            fake_y = self.gen_g(real_x, training=True)
            fake_x = self.gen_f(real_y, training=True)
            cycled_x = self.gen_f(fake_y, training=True)
            cycled_y = self.gen_g(fake_x, training=True)
            same_x = self.gen_f(real_x, training=True)
            same_y = self.gen_g(real_y, training=True)
            disc_fake_x = self.disc_x(fake_x, training=True)
            disc_fake_y = self.disc_y(fake_y, training=True)
            g_loss = (
                self.generator_loss(disc_fake_y)
                + 10.0 * self.cycle_loss(real_y, cycled_y)
                + 5.0 * self.identity_loss(real_y, same_y)
            )
            f_loss = (
                self.generator_loss(disc_fake_x)
                + 10.0 * self.cycle_loss(real_x, cycled_x)
                + 5.0 * self.identity_loss(real_x, same_x)
            )
            x_loss = self.discriminator_loss(
                self.disc_x(real_x, training=True), disc_fake_x
            )
            y_loss = self.discriminator_loss(
                self.disc_y(real_y, training=True), disc_fake_y
            )
        for loss, network, optimizer in (
            (g_loss, self.gen_g, self.gen_g_optimizer),
            (f_loss, self.gen_f, self.gen_f_optimizer),
            (x_loss, self.disc_x, self.disc_x_optimizer),
            (y_loss, self.disc_y, self.disc_y_optimizer),
        ):
            weights = network.trainable_variables
            grads = tape.gradient(loss, weights)
            optimizer.apply_gradients(zip(grads, weights, strict=True))
        return {
            "G_loss": g_loss,
            "F_loss": f_loss,
            "D_X_loss": x_loss,
            "D_Y_loss": y_loss,
        }


def network(outputs):
    return keras.Sequential(
        [keras.Input((6,)), layers.Dense(12, "gelu"), layers.Dense(outputs)]
    )


def make(way):
    model = CycleGAN(network(6), network(6), network(1), network(1))
    model.compile(
        *(
            way.optimizer(keras.optimizers.Adam(2e-3, beta_1=0.5))
            for _ in range(4)
        )
    )
    return model


def data(batch):
    random = np.random.default_rng(0)
    x = random.normal(size=(53, 6)).astype("float32")
    y = random.normal(1, 2, (53, 6)).astype("float32")
    return stream(x, y, batch=batch)


PROGRAM = Program(make, data, logs_of_last_step=True, is_long=True)
