"""Trains with backups; one worker fails once, at a given phase.

Arguments: folder, worker, phase, fault; or only the folder: nothing fails.
With the fault "slow" nothing fails either, in more and longer epochs.
"""

import json
import os
import pathlib
import signal
import socket
import sys
import time

import keras
import numpy as np
import problem
import tensorflow as tf

import tfdp
from tfdp.backup import backup_folder

folder = pathlib.Path(sys.argv[1])
victim, phase, fault = (*sys.argv[2:], None, None, None)[:3]
index = tfdp.Cluster.from_environment().index


def fail():
    """Fails, the first time that it is called in any attempt."""
    done = folder / "failed"
    if index != int(victim) or done.exists():
        return
    done.write_text(str(time.time()))
    print(f"{fault} on worker {index} during {phase}", flush=True)
    if fault == "exception":
        raise RuntimeError("a worker's own mistake")
    if fault == "early end":
        sys.exit(0)
    if fault == "missing peer":
        time.sleep(3600)
    if fault == "port in use":
        hold_own_port()
        return
    os.kill(os.getpid(), getattr(signal, fault))


def hold_own_port():
    address = tfdp.Cluster.from_environment().address
    holder = socket.create_server(("", int(address.rpartition(":")[2])))
    if os.fork() == 0:
        time.sleep(3600)
    holder.close()


class Fault(keras.callbacks.Callback):
    """Fails in the middle of the second epoch, or in its validation."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if fault == "slow":
            time.sleep(0.1)
        if phase == "step" and (self.epoch, batch) == (1, 2):
            fail()

    def on_test_batch_begin(self, batch, logs=None):
        if phase == "validation" and self.epoch == 1:
            fail()

    def on_train_batch_end(self, batch, logs=None):
        # The chief is about to write; so the others are in the next step.
        if phase == "saving" and (self.epoch, batch) == (1, 2):
            if index == 0:
                backup_folder.os = Failing()
            else:
                fail()


class Failing:
    """The module `os`, which fails where a backup is half written."""

    def __getattr__(self, name):
        if name == "fsync":
            fail()
        return getattr(os, name)


if phase == "start":
    fail()
strategy = tfdp.auto_strategy()
with strategy.scope():
    keras.utils.set_random_seed(5)
    model = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(
                int(os.environ.get("FAULTY_WIDTH", "16")), "relu"
            ),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(1),
        ]
    )
    model.compile(
        tfdp.DistributedOptimizer(
            keras.optimizers.SGD(0.05, momentum=0.9), accumulation_steps=2
        ),
        "mse",
    )
x, y = problem.arrays(120)
data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(120, seed=1)
model.fit(
    data.batch(16),
    validation_data=tf.data.Dataset.from_tensor_slices((x, y)).batch(32),
    epochs=12 if fault == "slow" else 3,
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
    weights = {
        str(i): np.asarray(w, np.float64).tolist()
        for i, w in enumerate(model.get_weights())
    }
    (folder / "weights.json").write_text(json.dumps(weights))

if phase == "end" and index != int(victim):
    # Longer than a heartbeat, so that a lost worker would be noticed.
    time.sleep(6)
    print("the other one has ended", flush=True)
