"""Time and memory of an epoch over arrays, which workers split by their rows.

    python benchmarks/input_arrays.py [--quick]

A small model trains on arrays on one, two and four workers. Given to `fit`,
each worker gathers its own rows; as a dataset that gathers whole batches, which
is what Keras makes of arrays, each gathers all, and drops those of the others.
Memory is what the largest worker gains at its peak, beyond the arrays.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

from harness.table import print_head, print_row

FEATURES = 4096
BATCH = 64  # of all workers
EPOCHS = 5
MARK = "[arrays] "
WAYS = ("split", "read by all")


def train(way, rows):
    import keras
    import numpy as np
    import tensorflow as tf

    import tfdp

    strategy = tfdp.auto_strategy()
    x = np.ones((rows, FEATURES), "float32")
    y = np.ones((rows, 1), "float32")

    def whole_batches():
        places = tf.data.Dataset.range(rows).batch(BATCH)
        arrays = tf.data.Dataset.from_tensors((x, y)).repeat()
        return tf.data.Dataset.zip(places, arrays).map(
            lambda place, arrays: tuple(tf.gather(a, place) for a in arrays),
            num_parallel_calls=tf.data.AUTOTUNE,
        )

    with strategy.scope():
        model = keras.Sequential(
            [keras.Input((FEATURES,)), keras.layers.Dense(1)]
        )
        optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(1e-6))
        model.compile(optimizer, "mse")
    times = []
    clock = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda *_: times.append(-time.perf_counter()),
        on_epoch_end=lambda *_: times.append(times.pop() + time.perf_counter()),
    )
    before = _peak()
    data = (x, y) if way == "split" else (whole_batches(),)
    model.fit(
        *data,
        batch_size=BATCH if way == "split" else None,
        shuffle=False,
        epochs=EPOCHS,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel(), clock],
    )
    found = {
        # The first epoch makes graphs.
        "seconds": statistics.median(times[1:]),
        "bytes": _peak() - before,
    }
    print("\n" + MARK + json.dumps(found), flush=True)


def _peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measured(way, workers, rows):
    """Returns what each worker has found."""
    script = [__file__, "--one", way, str(rows)]
    command = [sys.executable, *script]
    if workers > 1:
        command[1:1] = ["-P", "-m", "tfdp.cli", "launch", "--workers"]
        command[6:6] = [str(workers)]
    result = subprocess.run(
        command, capture_output=True, text=True, env=os.environ, check=True
    )
    return [
        json.loads(line.partition(MARK)[2])
        for line in result.stdout.splitlines()
        if MARK in line
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        return train(arguments.one[0], int(arguments.one[1]))
    rounds = arguments.rounds or (1 if arguments.quick else 3)
    rows = 2048 if arguments.quick else 16_384
    found = {
        (way, workers): [] for workers in arguments.workers for way in WAYS
    }
    for _ in range(rounds):
        for (way, workers), all_found in found.items():
            all_found.append(measured(way, workers, rows))
    print_head("arrays", "workers", "seconds per epoch", "memory, MB")
    size = rows * (FEATURES + 1) * 4
    for (way, workers), answers in found.items():
        seconds, memory = (
            statistics.median(max(a[key] for a in each) for each in answers)
            for key in ("seconds", "bytes")
        )
        print_row(
            f"{size / 1e6:,.0f} MB, {way}",
            workers,
            f"{seconds:.2f}",
            f"{memory / 1e6:,.0f}",
        )
    return None


if __name__ == "__main__":
    main()
