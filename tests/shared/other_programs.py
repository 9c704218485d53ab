"""Workers whose program is not the chief's, in one way after the other."""

import json
import os
import pathlib
import signal
import sys
import time

import keras
import numpy as np
import tensorflow as tf

import tfdp

SAMPLES, BATCH, ITEMS = 44, 8, 12
GIVEN = {
    "loss": "mse",
    "metrics": ["mae"],
    "accumulation_steps": 1,
    "steps_per_execution": 1,
    "count": SAMPLES,
    "epochs": 2,
    "batch_size": BATCH,
    "shuffle": True,
    "initial_epoch": 0,
    "class_weight": None,
    "validation_data": None,
    "seed": 7,
}
# What one worker does otherwise, and what it is told of it.
OTHERS = [
    ({"epochs": 5}, "epochs is 2 on the chief and 5 on"),
    ({"epochs": 1}, "epochs is 2 on the chief and 1 on"),
    ({"initial_epoch": 1}, "initial_epoch is 0 on the chief and 1 on"),
    ({"loss": "mae"}, "the loss is mse on the chief and mae on"),
    ({"metrics": ["mse"]}, 'the metrics is ["mae"] on the chief and ["mse"]'),
    ({"metrics": []}, 'the metrics is ["mae"] on the chief and []'),
    ({"shuffle": False}, "shuffle is True on the chief and False on"),
    (
        {"accumulation_steps": 2},
        "accumulation_steps of the optimizer is 1 on the chief and 2 on",
    ),
    (
        {"steps_per_execution": 2},
        "steps per execution is 1 on the chief and 2 on",
    ),
    ({"count": 41}, "the number of samples is 44 on the chief and 41 on"),
    (
        {"count": 33},
        "the number of batches of an epoch is 6 on the chief and 5 on",
    ),
    ({"batch_size": 4}, "batch_size is 8 on the chief and 4 on"),
    ({"class_weight": {0: 2.0}}, 'class_weight is None on the chief and {"0"'),
    ({"validation_data": True}, "validation_data is none on the chief and giv"),
    ({"seed": 8}, "the seed of the order is "),
]


class Waiting(keras.callbacks.Callback):
    """Has the chief wait until the other worker has tried all and is in."""

    def __init__(self, folder):
        super().__init__()
        self.done = pathlib.Path(folder, "done")

    def on_train_batch_end(self, batch, logs=None):
        while batch == 0 and not self.done.exists():
            time.sleep(0.05)

    def on_epoch_begin(self, epoch, logs=None):
        exchange = self.model.distribute_strategy.exchange
        while epoch and "1" not in exchange.statistics()["updates"]:
            time.sleep(0.05)


def fit(strategy, callbacks=(), **other):
    given = {**GIVEN, **other}
    x = np.random.default_rng(0).normal(size=(given.pop("count"), 5))
    y = x.sum(1, keepdims=True)
    tf.random.set_seed(given.pop("seed"))
    strategy._datasets = 0
    with strategy.scope():
        model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(1)])
        model.compile(
            tfdp.DistributedOptimizer(
                keras.optimizers.SGD(0.01),
                accumulation_steps=given.pop("accumulation_steps"),
            ),
            **{
                name: given.pop(name)
                for name in ("loss", "metrics", "steps_per_execution")
            },
        )
    if given["validation_data"]:
        given["validation_data"] = (x, y)
    callbacks = [tfdp.callbacks.DataParallel(), *callbacks]
    model.fit(x, y, verbose=0, callbacks=callbacks, **given)
    return [w.tolist() for w in model.get_weights()]


def try_all(folder):
    """Returns what the worker was told, and what it has trained at last."""
    strategy = tfdp.AsynchronousStrategy(max_staleness=1)
    if strategy.is_chief:
        weights = fit(strategy, [Waiting(folder)])
        return [strategy.exchange.statistics()["updates"], weights]
    told = []
    for other, _ in OTHERS:
        try:
            fit(strategy, **other)
        except ValueError as error:
            told.append(str(error))
        else:
            told.append("was let in")
    pathlib.Path(folder, "done").touch()
    return [told, fit(strategy)]


class Places(keras.utils.PyDataset):
    """Items, of which each one that is read is noted with its epoch."""

    def __init__(self, feed, path):
        super().__init__()
        self.feed, self.path = feed, path

    def __len__(self):
        return ITEMS

    def __getitem__(self, place):
        with self.path.open("a") as file:
            print(self.feed.epoch, place, file=file)
        x = np.full((BATCH, 5), place, "float32")
        return x, x[:, :1]


class Back(keras.callbacks.Callback):
    """Has worker 1 fall in epoch 1; the chief waits for it before epoch 3."""

    def __init__(self, life):
        super().__init__()
        self.life = life

    def on_epoch_begin(self, epoch, logs=None):
        exchange = self.model.distribute_strategy.exchange
        while epoch in (1, 3) and exchange.worker == 0:
            if exchange.statistics()["living"] == [0, 1]:
                break
            time.sleep(0.05)
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        time.sleep(0.05)
        worker = self.model.distribute_strategy.worker_index
        if (worker, self.life, self.epoch) == (1, 0, 1):
            os.kill(os.getpid(), signal.SIGKILL)


def back_in_another_place(folder):
    """Worker 1 falls, and comes back with another `initial_epoch`.

    As one does that looks how many checkpoints there are.
    """
    strategy = tfdp.AsynchronousStrategy(max_staleness=1)
    life = int(os.environ["TFDP_RESTART_COUNT"])
    path = pathlib.Path(folder, f"{strategy.worker_index}-{life}.txt")
    with strategy.scope():
        model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(1)])
        model.compile(
            tfdp.DistributedOptimizer(keras.optimizers.SGD(1e-6)), "mse"
        )
    history = model.fit(
        Places(strategy.feed, path),
        epochs=4,
        initial_epoch=2 * life,
        shuffle=True,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel(), Back(life)],
    )
    return history.epoch


def without_one():
    """Worker 1 ends at once."""
    index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    if index == 1:
        sys.exit("no accelerator")
    strategy = tfdp.AsynchronousStrategy(max_staleness=1)
    begin = time.monotonic()
    fit(strategy)
    return [
        strategy.exchange.statistics()["version"],
        time.monotonic() - begin,
    ]
