"""Trains on workers, of which one is killed once, at a given update.

Arguments: folder, worker, epoch, batch; or only the folder: nobody is killed.
With a fifth, "writing": in the middle of writing to memory after that batch.
Backups on disk are made between epochs, in memory after each update.
"""

import json
import os
import pathlib
import signal
import sys

import keras
import numpy as np
import problem
import tensorflow as tf

import tfdp
from tfdp.backup.memory import memory_file

folder = pathlib.Path(sys.argv[1])
victim, *place = map(int, sys.argv[2:5] or ["-1"])
is_writing = "writing" in sys.argv
index = tfdp.Cluster.from_environment().index
BATCH, SAMPLES, EPOCHS = 24, 120, 3


def kill():
    if index == victim and not (folder / "killed").exists():
        (folder / "killed").write_text("")
        os.kill(os.getpid(), signal.SIGKILL)


class Half:
    """The module `os`, which is killed when it has written half of an array."""

    def __getattr__(self, name):
        return getattr(os, name)

    def pwrite(self, descriptor, part, place):
        if place > 4096 and len(part) > 64:
            os.pwrite(descriptor, part[: len(part) // 2], place)
            kill()
        return os.pwrite(descriptor, part, place)


class Seen(keras.callbacks.Callback):
    """Writes down which updates are made, and has a worker killed."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if [self.epoch, batch] == place and not is_writing:
            kill()
        self.before = int(self.model.optimizer.iterations.numpy())

    def on_train_batch_end(self, batch, logs=None):
        update = int(self.model.optimizer.iterations.numpy())
        if update > self.before:
            with (folder / f"updates-{index}").open("a") as file:
                print(os.environ["TFDP_RESTART_COUNT"], update, file=file)
        if [self.epoch, batch] == place and is_writing:
            memory_file.os = Half()


strategy = tfdp.auto_strategy()
with strategy.scope():
    keras.utils.set_random_seed(5)
    model = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(16, "relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(1),
        ]
    )
    model.compile(
        tfdp.DistributedOptimizer(
            keras.optimizers.Adam(0.01, use_ema=True),
            synchronization=tfdp.ShardedState(),
        ),
        "mse",
    )
x, y = problem.arrays(SAMPLES)
data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(SAMPLES, seed=1)
model.fit(
    data.batch(BATCH),
    epochs=EPOCHS,
    verbose=0,
    callbacks=[
        tfdp.callbacks.DataParallel(),
        Seen(),
        tfdp.callbacks.BackupAndRestore(
            folder / f"backups-{index}", most_pause=1
        ),
    ],
)
model.optimizer.gather_state()
if strategy.is_chief:
    values = [*model.weights, *model.optimizer.variables]
    weights = [np.asarray(v.numpy(), np.float64).tolist() for v in values]
    (folder / "weights.json").write_text(json.dumps(weights))
