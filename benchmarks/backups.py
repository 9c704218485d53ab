"""How long training waits for a backup.

    python benchmarks/backups.py [--quick]

Trains a dense layer by Adam, on one replica, whose state is of about 1, 50 and
400 MB. Of an update, what passes from the end of its step to the begin of the
next one is for callbacks: the table shows its median where a backup was made,
less that where none was, if there are such; and medians of whole updates.
`tfdp, disk` is written by a thread meanwhile, `tfdp, memory` lies in memory
when training goes on, in files that outlive the process. Each is a process of
its own.
"""

import argparse
import contextlib
import json
import os
import statistics
import tempfile
import time

from harness.own_process import in_own_process
from harness.table import print_head, print_row

WAYS = ("Keras", "tfdp, disk", "tfdp, memory")
MEGABYTES = (1, 50, 400)
EVERY, BATCH = 6, 8


def measure(way, megabytes, backups):
    """Prints the seconds of each update, and how much of it was between."""
    folder = tempfile.mkdtemp()
    in_memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=in_memory) as memory:
        if way == "tfdp, memory":
            os.environ["TFDP_MEMORY_FOLDER"] = memory
        train(way, megabytes, folder, backups)


def train(way, megabytes, folder, backups):
    import keras
    import numpy as np

    import tfdp

    class Times(keras.callbacks.Callback):
        """Before those that back up, and so with what they do in between."""

        def __init__(self):
            super().__init__()
            self.ends, self.begins = [], []

        def on_train_batch_begin(self, batch, logs=None):
            self.begins.append(time.perf_counter())

        def on_train_batch_end(self, batch, logs=None):
            self.ends.append(time.perf_counter())

    # The weights, and two slots of Adam.
    side = int((megabytes * 1e6 / 12) ** 0.5)
    steps = backups * EVERY
    x = np.ones((BATCH, side), "float32")
    times, scope = Times(), contextlib.nullcontext()
    backup = keras.callbacks.BackupAndRestore(folder, save_freq=EVERY)
    callbacks = [times, backup]
    if way != "Keras":
        scope = tfdp.MirroredStrategy(["CPU:0"]).scope()
        freq = EVERY if way == "tfdp, disk" else "epoch"
        backup = tfdp.callbacks.BackupAndRestore(folder, freq, most_pause=1)
        callbacks = [tfdp.callbacks.DataParallel(), times, backup]
    with scope:
        model = keras.Sequential(
            [keras.Input((side,)), keras.layers.Dense(side)]
        )
        optimizer = keras.optimizers.Adam(1e-4)
        if way != "Keras":
            optimizer = tfdp.DistributedOptimizer(optimizer)
        model.compile(optimizer, "mse")
    model.fit(
        np.repeat(x, steps, 0),
        np.repeat(x, steps, 0),
        batch_size=BATCH,
        epochs=1,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
    )
    pauses = np.subtract(times.begins[1:], times.ends[:-1])
    whole = np.diff(times.begins)
    print(json.dumps([pauses.tolist(), whole.tolist()]))


def medians(numbers, is_each):
    """Returns those of updates with a backup, and of others."""
    # The first of each are those that make files, or trace.
    places = list(enumerate(numbers, 1))[EVERY:]
    with_backup = [x for place, x in places if is_each or not place % EVERY]
    others = [x for place, x in places if place % EVERY and not is_each]
    return [statistics.median(x) if x else 0.0 for x in (with_backup, others)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        way, *numbers = arguments.one
        return measure(way, *map(int, numbers))
    backups = 4 if arguments.quick else 12
    print_head(
        *("state", "", "a backup every", "ms of pause"),
        "ms of an update with one",
        more=[f"{backups} backups each"],
    )
    for megabytes in MEGABYTES[: 2 if arguments.quick else None]:
        for way in WAYS:
            is_each = way == "tfdp, memory"
            pauses, whole = in_own_process(__file__, way, megabytes, backups)
            with_one, without = medians(pauses, is_each)
            print_row(
                f"{megabytes} MB",
                way,
                "update" if is_each else f"{EVERY} updates",
                f"{(with_one - without) * 1e3:.1f}",
                f"{medians(whole, is_each)[0] * 1e3:.0f}",
            )
    return None


if __name__ == "__main__":
    main()
