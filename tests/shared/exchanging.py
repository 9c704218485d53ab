"""Workers that train by a loop of their own, and the replay of what they did.

Run as a program: `exchanging.py WORKER` reads what to do from its input.
"""

import json
import os
import sys
import time

import keras
import numpy as np
import tensorflow as tf

from tfdp.asynchronous.description import Description
from tfdp.asynchronous.exchange import Exchange

BATCH = 8
OPTIMIZERS = {
    "SGD": lambda: keras.optimizers.SGD(0.05, momentum=0.9),
    "Adam": lambda: keras.optimizers.Adam(0.01),
    "AdamW": lambda: keras.optimizers.AdamW(
        0.01, weight_decay=0.1, global_clipnorm=0.2
    ),
}


def batches(count):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, BATCH, 5)).astype("float32")
    y = rng.normal(size=(count, BATCH, 1)).astype("float32")
    return x, y


def make_model():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(7, "tanh", kernel_regularizer="l2"),
            keras.layers.Dense(1),
        ]
    )


class Loop:
    """A custom training loop around an exchange.

    Args:
        count: Batches of an epoch.
        optimizer: Name of the optimizer.
        before_update: Called with the number of updates made, before each.
    """

    def __init__(self, count, optimizer, before_update=lambda done: None):
        self.x, self.y = batches(count)
        self.count = count
        self.model = make_model()
        self.optimizer = OPTIMIZERS[optimizer]()
        self.before_update = before_update
        self.variables = self.model.trainable_variables
        self.gradients = gradients_of(self.model)
        self.done = 0

    @property
    def description(self):
        return Description.of(self.variables, self.optimizer)

    def assign(self, weights):
        for variable, value in zip(self.variables, weights.values, strict=True):
            variable.assign(value)

    def run(self, exchange, epochs, *, then_read=False):
        """Trains; returns the last weights."""
        exchange.join(self.description, [v.numpy() for v in self.variables])
        for epoch in range(epochs):
            while (number := exchange.take(epoch)) is not None:
                if number >= self.count:
                    exchange.end_of_data(epoch, self.count)
                    continue
                if (weights := exchange.read()) is not None:
                    self.assign(weights)
                gradients = self.gradients(self.x[number], self.y[number])
                self.before_update(self.done)
                weights = exchange.update(
                    [g.numpy() for g in gradients],
                    step=epoch * self.count + number,
                    epoch=epoch,
                    batches=[number],
                    then_read=then_read,
                )
                self.done += 1
                if then_read:
                    self.assign(weights)
        return exchange.end().values


def gradients_of(model):
    loss = keras.losses.MeanSquaredError()

    @tf.function
    def gradients(x, y):
        with tf.GradientTape() as tape:
            value = loss(y, model(x, training=True)) + sum(model.losses)
        return tape.gradient(value, model.trainable_variables)

    return gradients


def replayed(log, count, optimizer):
    """Makes the updates of a log by plain Keras on one device.

    Returns:
        The weights before each update and after the last one.
    """
    model = make_model()
    x, y = batches(count)
    made = OPTIMIZERS[optimizer]()
    variables = model.trainable_variables
    made.build(variables)
    gradients_at = gradients_of(model)
    apply = tf.function(lambda gradients: made.apply(gradients, variables))
    history = [[v.numpy() for v in variables]]

    def go_to(version):
        for variable, value in zip(variables, history[version], strict=True):
            variable.assign(value)

    for update in log:
        go_to(update.read)
        number = update.step % count
        gradients = gradients_at(x[number], y[number])
        go_to(update.applied)
        apply(gradients)
        history.append([v.numpy() for v in variables])
    return history


def main():
    """A worker process: slow, or killed by itself, as it is told."""
    task = json.loads(sys.stdin.readline())

    def before_update(done):
        time.sleep(task.get("seconds", 0))
        if done == task.get("dies_at"):
            os.kill(os.getpid(), 9)
        if done == task.get("hangs_at"):
            os.kill(os.getpid(), 19)

    loop = Loop(task["count"], task["optimizer"], before_update)
    exchange = Exchange(
        task["address"],
        task["secret"],
        worker=task["worker"],
        heartbeat_timeout=task.get("heartbeat_timeout", 5.0),
    )
    weights = loop.run(exchange, task["epochs"])
    print(json.dumps({"weights": [w.tolist() for w in weights]}), flush=True)
    if task["worker"] == 0:
        sys.stdin.readline()
    exchange.close()


if __name__ == "__main__":
    main()
