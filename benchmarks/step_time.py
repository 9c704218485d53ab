"""Time of a training step with two replicas in one process.

    python benchmarks/step_time.py [--quick]

Compares plain Keras under `tf.distribute.MirroredStrategy` with tfdp, at
accumulation 1 and 8, and with the noise in gradients measured. Every variant
runs in a process of its own, in turns, so that a machine that slows down slows
all of them; the table shows medians over the rounds, of medians over the steps,
and ratios round by round.
"""

import argparse
import json
import os
import platform
import statistics
import time

from own_process import in_own_process

VARIANTS = {
    "plain Keras": None,
    "tfdp": {"accumulation": 1},
    "tfdp, noise measured": {"accumulation": 1, "noise": 0.99},
    "tfdp, accumulation 8": {"accumulation": 8},
    "tfdp, accumulation 8, noise measured": {"accumulation": 8, "noise": 0.99},
}
MODELS = {"tiny": (16, 16), "dense": (1024, 2048, 2048)}
REPLICAS, PER_REPLICA_BATCH, WARMUP_STEPS = 2, 32, 16


def measure(model_name, variant, num_steps):
    import keras
    import numpy as np
    import tensorflow as tf

    import tfdp

    devices = tfdp.testing.logical_cpus(REPLICAS)
    plain = variant is None
    kind = tf.distribute.MirroredStrategy if plain else tfdp.MirroredStrategy
    strategy = kind(devices)
    width, *hidden = MODELS[model_name]
    with strategy.scope():
        optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
        model = keras.Sequential(
            [
                keras.Input((width,)),
                *(keras.layers.Dense(n, "relu") for n in hidden),
                keras.layers.Dense(10),
            ]
        )
        if not plain:
            optimizer = tfdp.DistributedOptimizer(
                optimizer, variant["accumulation"]
            )
            if "noise" in variant:
                optimizer.measure_noise(variant["noise"])
        model.compile(optimizer, "mse")
    seconds = []

    class Clock(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.start = time.perf_counter()

        def on_train_batch_end(self, batch, logs=None):
            seconds.append(time.perf_counter() - self.start)

    batch = REPLICAS * PER_REPLICA_BATCH
    one = (np.ones((batch, width), "float32"), np.ones((batch, 10), "float32"))
    data = tf.data.Dataset.from_tensors(one).repeat()
    callbacks = [] if plain else [tfdp.callbacks.DataParallel()]
    model.fit(
        data,
        steps_per_epoch=WARMUP_STEPS + num_steps,
        shuffle=False,
        verbose=0,
        callbacks=[*callbacks, Clock()],
    )
    # The mean of whole cycles: with accumulation not all steps are alike.
    measured = seconds[WARMUP_STEPS:]
    cycles = [measured[i : i + 8] for i in range(0, len(measured), 8)]
    print(json.dumps(statistics.median(map(statistics.mean, cycles))))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        model, variant, steps = arguments.one
        return measure(model, json.loads(variant), int(steps))
    rounds, num_steps = (2, 80) if arguments.quick else (5, 240)
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    )
    print("| model | variant | ms per step | samples/s over plain Keras |")
    print("| --- | --- | --- | --- |")
    for model in MODELS:
        table = [
            [
                in_own_process(__file__, model, json.dumps(variant), num_steps)
                for variant in VARIANTS.values()
            ]
            for _ in range(rounds)
        ]
        for place, variant in enumerate(VARIANTS):
            middle = statistics.median(row[place] for row in table) * 1e3
            ratio = statistics.median(row[0] / row[place] for row in table)
            print(f"| {model} | {variant} | {middle:.2f} | {ratio:.2f} |")
    return None


if __name__ == "__main__":
    main()
