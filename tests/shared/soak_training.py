"""Trains slowly, and fails in the way that a file orders; see `torment.py`.

Arguments: a folder, the name of an optimizer, and the number of epochs.
"""

import contextlib
import json
import os
import pathlib
import socket
import sys
import threading
import time

import elastic
import launched_job
import numpy as np
import psutil
import tensorflow as tf

import tfdp
from tfdp.callbacks import BackupAndRestore, DataParallel, RunLogger

folder, name, epochs = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
cluster = tfdp.Cluster.from_environment()
attempt = int(os.environ["TFDP_RESTART_COUNT"])
hangs_in: list[str] = []
CUT_SECONDS = 1


class Orders(threading.Thread):
    """Waits for a file that is named by this process."""

    def run(self):
        file = folder / launched_job.ORDERS / str(os.getpid())
        while not file.exists():
            time.sleep(0.05)
        kind, *place = file.read_text().split()
        hangs_in.extend(place)
        if kind == "cut":
            cut()


def cut():
    """Ends the connections of this process, and new ones, for a while."""
    until = None
    while until is None or time.monotonic() < until:
        found = connections()
        if found and until is None:
            until = time.monotonic() + CUT_SECONDS
            print(f"obeys: cuts {len(found)} connections", flush=True)
        for descriptor in found:
            # Who has it may be closing it by now.
            with (
                contextlib.suppress(OSError),
                socket.socket(fileno=os.dup(descriptor)) as connection,
            ):
                connection.shutdown(socket.SHUT_RDWR)
        time.sleep(0.01)


def connections():
    return [
        each.fd
        for each in psutil.Process().net_connections("tcp")
        if each.status == psutil.CONN_ESTABLISHED
    ]


def may_hang(place):
    if place in hangs_in:
        print(f"obeys: hangs in its {place}", flush=True)
        time.sleep(3600)


def read(x):
    may_hang("input")
    return x


def reading(x, y):
    return tf.ensure_shape(tf.numpy_function(read, [x], x.dtype), x.shape), y


class Slow(elastic.Updates):
    """Says each update, which takes as long as the samples of a worker."""

    def on_train_batch_begin(self, batch, logs=None):
        may_hang("callback")

    def on_update(self, update):
        size = strategy.num_workers
        if strategy.is_chief:
            print(f"update {update} of {size} in {attempt}", flush=True)
        time.sleep(launched_job.UPDATE_SECONDS / size)


private = [
    os.environ["TFDP_MEMORY_FOLDER"],
    os.path.dirname(os.environ["TFDP_BOARD"]),
]
about = {"attempt": attempt, "pid": os.getpid(), "folders": private}
print(f"begins {json.dumps(about)}", flush=True)
Orders(daemon=True).start()
strategy = tfdp.auto_strategy()
size = {"epochs": epochs, "samples": launched_job.SAMPLES}
with strategy.scope():
    model = elastic.model()
    optimizer = tfdp.DistributedOptimizer(
        elastic.optimizer(name, **size),
        accumulation_steps=elastic.MICRO_BATCHES,
    )
    model.compile(optimizer, "mse")
micro_batch = elastic.BATCH // elastic.MICRO_BATCHES
history = model.fit(
    elastic.data(micro_batch, launched_job.SAMPLES).map(reading),
    epochs=epochs,
    verbose=0,
    callbacks=[
        DataParallel(),
        BackupAndRestore(folder / "backups"),
        RunLogger(folder / "log", every=100),
        Slow(),
    ],
).history
if strategy.is_chief:
    np.savez(folder / "weights.npz", *model.get_weights())
    np.save(folder / "losses.npy", history["loss"])
