"""Programs that train by `fit` in an AsynchronousStrategy, and their replay."""

import json
import os
import pathlib
import time

import keras
import numpy as np
import tensorflow as tf

import tfdp

SAMPLES, BATCH = 44, 8
OPTIMIZERS = {
    "SGD": lambda: keras.optimizers.SGD(0.05, momentum=0.9),
    "Adam": lambda: keras.optimizers.Adam(
        keras.optimizers.schedules.ExponentialDecay(0.02, 5, 0.8)
    ),
    "AdamW": lambda: keras.optimizers.AdamW(
        0.01, weight_decay=0.1, global_clipnorm=0.2, use_ema=True
    ),
}


def samples():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(SAMPLES, 5)).astype("float32")
    return x, (x.sum(1, keepdims=True) + 0.3).astype("float32")


def make_model():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(7, "tanh", kernel_regularizer="l2"),
            keras.layers.Dense(1),
        ]
    )


class Slow(keras.callbacks.Callback):
    """Makes each step of a worker take longer."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def on_train_batch_end(self, batch, logs=None):
        time.sleep(self.seconds)


class Noted:
    """Writes which batches each update of this worker is of."""

    def __init__(self, strategy, folder):
        self._used = strategy.feed.used
        name = f"{strategy.worker_index}-{os.getpid()}.jsonl"
        self._path = pathlib.Path(folder, name)
        strategy.feed.used = self
        self._feed = strategy.feed

    def __call__(self):
        used = self._used()
        with self._path.open("a") as file:
            print(json.dumps([self._feed.epoch, used]), file=file)
        return used


def train(folder, optimizer, bound, epochs=2, slow=0.0, accumulation=1):
    """Trains; returns what the server and this worker have."""
    strategy = tfdp.AsynchronousStrategy(
        max_staleness=bound, heartbeat_timeout=2.0
    )
    Noted(strategy, folder)
    with strategy.scope():
        model = make_model()
        model.compile(
            tfdp.DistributedOptimizer(
                OPTIMIZERS[optimizer](), accumulation_steps=accumulation
            ),
            "mse",
        )
    is_slow = strategy.worker_index == 1
    history = model.fit(
        *samples(),
        batch_size=BATCH,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[
            tfdp.callbacks.DataParallel(),
            Slow(slow if is_slow else 0.0),
        ],
    )
    found = {
        "weights": [w.tolist() for w in model.get_weights()],
        "iterations": int(model.optimizer.iterations.numpy()),
        "history": history.history,
    }
    if strategy.is_chief:
        found["log"] = [list(row) for row in strategy.exchange.log()]
        found["statistics"] = strategy.exchange.statistics()
    return found


def replayed(log, numbers_of, optimizer, order):
    """Makes the updates of a log on one device; returns the weights.

    Args:
        log: Rows of worker, its step, version read and version applied.
        numbers_of: Returns the epoch and batches of a worker's step.
        optimizer: Name of it.
        order: Returns the batch of samples of an epoch, by its number.
    """
    model, made = make_model(), OPTIMIZERS[optimizer]()
    variables = model.trainable_variables
    made.build(variables)
    loss_of = keras.losses.MeanSquaredError()

    @tf.function
    def gradients(x, y):
        with tf.GradientTape() as tape:
            loss = loss_of(y, model(x, training=True)) + sum(model.losses)
        return tape.gradient(loss, variables)

    versions = [[v.numpy() for v in variables]]
    for worker, step, read, applied in log:
        assert applied == len(versions) - 1
        for variable, value in zip(variables, versions[read], strict=True):
            variable.assign(value)
        epoch, (number,) = numbers_of(worker, step)
        taken = gradients(*map(tf.constant, order(epoch, number)))
        for variable, value in zip(variables, versions[-1], strict=True):
            variable.assign(value)
        made.apply(taken, variables)
        versions.append([v.numpy() for v in variables])
    made.finalize_variable_values(variables)
    return [v.numpy() for v in variables]
