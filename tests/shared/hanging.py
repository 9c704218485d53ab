"""Trains with backups; worker 1 hangs once, in a given way.

Arguments: folder, fault. Without a fault nothing hangs; with "slow" nothing
does either, but validation and the graph of a step take their time.
"""

import ctypes
import json
import os
import pathlib
import signal
import sys
import threading
import time

import keras
import numpy as np
import problem
import tensorflow as tf

import tfdp

folder = pathlib.Path(sys.argv[1])
fault = sys.argv[2] if len(sys.argv) > 2 else ""
index = tfdp.Cluster.from_environment().index
UPDATES = 8


def hangs(name):
    """Whether to hang now: once in all attempts."""
    done = folder / "hung"
    if index != 1 or fault != name or done.exists():
        return False
    done.touch()
    return True


class Fault(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch != 5:
            return
        if hangs("callback"):
            time.sleep(3600)  # callback
        if hangs("in C"):
            mutex = ctypes.create_string_buffer(64)
            for _ in range(2):
                # It keeps Python's lock meanwhile.
                ctypes.PyDLL(None).pthread_mutex_lock(mutex)  # in C
        if hangs("stop"):
            os.kill(os.getpid(), signal.SIGSTOP)

    def on_test_batch_begin(self, batch, logs=None):
        if fault == "slow" and batch == 1:
            time.sleep(4)


def rows():
    x, y = problem.arrays(UPDATES * 16)
    for i in range(len(x)):
        if i == 5 * 16 and hangs("data"):
            time.sleep(3600)  # data
        yield x[i], y[i]


lock = threading.Lock()


def weighed(x):
    if len(steps) == 5 and hangs("lock"):
        with lock:
            lock.acquire()  # lock
    steps.append(x.shape)
    return x


steps: list[tuple[int, ...]] = []


class Weighing(keras.layers.Layer):
    def call(self, x):
        if fault == "slow" and not tf.executing_eagerly():
            time.sleep(4)
        if fault != "lock":
            return x
        y = tf.numpy_function(weighed, [x], x.dtype)
        return tf.ensure_shape(y, x.shape)


strategy = tfdp.auto_strategy()
with strategy.scope():
    keras.utils.set_random_seed(5)
    model = keras.Sequential(
        [keras.Input((8,)), Weighing(), keras.layers.Dense(1)]
    )
    model.compile(tfdp.DistributedOptimizer(keras.optimizers.SGD(0.05)), "mse")
x, y = problem.arrays(UPDATES * 16)
data = tf.data.Dataset.from_generator(
    rows,
    output_signature=(
        tf.TensorSpec(x.shape[1:], x.dtype),
        tf.TensorSpec(y.shape[1:], y.dtype),
    ),
).apply(tf.data.experimental.assert_cardinality(len(x)))
model.fit(
    data.batch(16),
    validation_data=tf.data.Dataset.from_tensor_slices((x, y)).batch(32),
    epochs=2,
    verbose=0,
    callbacks=[
        tfdp.callbacks.DataParallel(),
        Fault(),
        tfdp.callbacks.BackupAndRestore(
            folder / f"backups-{index}", save_freq=1
        ),
    ],
)
if strategy.is_chief:
    weights = [np.asarray(w, np.float64).tolist() for w in model.get_weights()]
    (folder / "weights.json").write_text(json.dumps(weights))
