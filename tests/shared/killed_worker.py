"""Trains on two workers, of which some are killed, once each.

Arguments: folder, and "WORKER,EPOCH,BATCH" as a step begins, or
"WORKER,EPOCH,BATCH,writing" for in the middle of writing to memory after it.
Backups on disk are made between epochs, in memory after each update.
"""

import json
import os
import pathlib
import signal
import sys
import time

import keras
import numpy as np
import problem
import tensorflow as tf

import tfdp
from tfdp.backup.memory import memory_file

folder = pathlib.Path(sys.argv[1])
index = tfdp.Cluster.from_environment().index
restarts = int(os.environ["TFDP_RESTART_COUNT"])
# One in each attempt.
worker, *place = (*sys.argv[2:], "", "", "", "")[restarts].split(",")
is_victim = worker == str(index)
is_writing = place[2:] == ["writing"]
BATCH, SAMPLES, EPOCHS = 24, 120, 3


class Half:
    """The module `os` of a process that is killed while it writes arrays."""

    def __getattr__(self, name):
        return getattr(os, name)

    def pwrite(self, descriptor, part, place):
        if len(part) == 16 * 8 * 4:
            os.pwrite(descriptor, part[: len(part) // 2], place)
            os.kill(os.getpid(), signal.SIGKILL)
        return os.pwrite(descriptor, part, place)


class Seen(keras.callbacks.Callback):
    """Writes down which updates are made, and has a worker killed."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def is_there(self, batch):
        return is_victim and [str(self.epoch), str(batch)] == place[:2]

    def on_train_batch_begin(self, batch, logs=None):
        if self.is_there(batch) and not is_writing:
            # Until the chief has written what it was just told.
            time.sleep(1)
            os.kill(os.getpid(), signal.SIGKILL)
        self.before = int(self.model.optimizer.iterations.numpy())

    def on_train_batch_end(self, batch, logs=None):
        update = int(self.model.optimizer.iterations.numpy())
        # Steps that only pass over data make none.
        if update > self.before:
            # Of the program's own: not the same on all, nor in each update.
            drawn = np.random.random(index + 1)[-1] if update % 2 else 0.0
            with (folder / f"updates-{index}-{restarts}").open("a") as file:
                print(update, drawn, file=file)
        if self.is_there(batch) and is_writing:
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
