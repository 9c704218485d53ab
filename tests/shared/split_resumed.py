"""Trains in two parts, the second perhaps on another number of workers."""

import contextlib
import sys

import keras
import numpy as np
import tensorflow as tf
from killed import KillAt, Killed

import tfdp

folder, part, *names = sys.argv[1:]
strategy = tfdp.auto_strategy()
SAMPLES, BATCH, EPOCHS, KILLED_AT = 37, 8, 3, (1, 2)
x = np.random.default_rng(0).normal(size=(SAMPLES, 4)).astype("float32")
y = x.sum(1, keepdims=True)
read = tf.Variable(0)


def of_index(index):
    with tf.control_dependencies([read.assign_add(1)]):
        return tf.gather(x, index), tf.gather(y, index)


DATA = {
    "arrays": lambda: (x, y),
    "rows in their order": lambda: (x, y),
    "shuffled range": lambda: (
        tfdp.shuffled_range(SAMPLES, seed=5)
        .apply(tfdp.shard)
        .map(of_index)
        .batch(BATCH)
        .prefetch(1),
    ),
    "shuffled dataset": lambda: (
        tf.data.Dataset.range(SAMPLES)
        .shuffle(SAMPLES, seed=3)
        .apply(tfdp.shard)
        .map(of_index)
        .batch(BATCH),
    ),
}


def trained(name, place):
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
        model.compile(tfdp.DistributedOptimizer(optimizer), "mse")
    data = DATA[name]()
    options = {"batch_size": BATCH} if len(data) == 2 else {}
    if name == "rows in their order":
        options["shuffle"] = False
    read.assign(0)
    with contextlib.suppress(Killed):
        model.fit(
            *data,
            epochs=EPOCHS,
            verbose=0,
            callbacks=[
                tfdp.callbacks.DataParallel(),
                tfdp.callbacks.BackupAndRestore(f"{folder}/{name}", 1),
                KillAt(*place),
            ],
            **options,
        )
    weights = np.concatenate([w.ravel() for w in model.get_weights()])
    return {"weights": weights.tolist(), "read": int(read.numpy())}


place = KILLED_AT if part == "first" else (9, 9)
tfdp.testing.report({name: trained(name, place) for name in names})
