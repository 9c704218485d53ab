"""What `ThroughputMonitor` costs, in microseconds per step.

    python benchmarks/monitor_overhead.py [--quick]

Trains two like models of tiny steps in one process, a step of one and a step of
the other in turns, so that both meet the same machine. One of them has the
monitor: stamps in the graph and hooks around the step, and where somebody
listens, as `RunLogger` does, the end of a window every 100 steps. The table
shows medians over stretches of 100 steps, and the interval that holds the
median difference with 95 % confidence.
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time

WINDOW = 100
WIDTH = 16


def measure(replicas, is_heard, stretches):
    import keras
    import numpy as np
    import tensorflow as tf

    import tfdp

    devices = tfdp.testing.logical_cpus(replicas)
    batch = 32 * replicas
    one = (np.ones((batch, WIDTH), "float32"), np.ones((batch, 10), "float32"))
    data = tf.data.Dataset.from_tensors(one).repeat()

    def trained(callbacks):
        # Clocks are stamped under one strategy, and not under the other.
        strategy = tfdp.MirroredStrategy(devices)
        with strategy.scope():
            model = keras.Sequential(
                [keras.Input((WIDTH,)), keras.layers.Dense(10)]
            )
            optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(0.01))
            model.compile(optimizer, "mse")
        model.fit(
            data,
            steps_per_epoch=20,
            verbose=0,
            shuffle=False,
            callbacks=callbacks,
        )
        batches = iter(strategy.experimental_distribute_dataset(data))
        return model, lambda: model.train_function(batches)

    monitor = tfdp.callbacks.ThroughputMonitor(window=WINDOW, verbose=0)
    _, without = trained([])
    model, with_stamps = trained([monitor])
    monitor.on_train_begin()
    if is_heard:
        monitor.listen(lambda window: None)
    monitor.on_epoch_begin(0)
    steps = iter(range(10**9))

    def monitored():
        step = next(steps)
        monitor.on_train_batch_begin(step)
        with_stamps()
        monitor.on_train_batch_end(step)

    def seconds_of(function):
        begin = time.perf_counter()
        function()
        return time.perf_counter() - begin

    means = []
    for _ in range(stretches):
        pairs = [
            (seconds_of(without), seconds_of(monitored)) for _ in range(WINDOW)
        ]
        means.append(
            [statistics.mean(each) for each in zip(*pairs, strict=True)]
        )
    print(json.dumps(means))


def in_own_process(*arguments):
    command = [sys.executable, __file__, "--one", *map(str, arguments)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    result = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(result.stdout.splitlines()[-1])


def interval_of_median(values):
    """Returns where the median lies with 95 % confidence (sign test)."""
    values = sorted(values)
    margin = int(0.98 * len(values) ** 0.5)
    middle = len(values) // 2
    return values[max(middle - margin, 0)], values[
        min(middle + margin, len(values) - 1)
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        return measure(*map(int, arguments.one))
    stretches = 20 if arguments.quick else 60
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} "
        f"cores, {stretches * WINDOW:,} steps each"
    )
    print(
        "| replicas | windows heard | step without | with "
        "| difference (95 % interval) |"
    )
    print("| --- | --- | --- | --- | --- |")
    for replicas, is_heard in itertools.product((1, 2), (0, 1)):
        means = in_own_process(replicas, is_heard, stretches)
        without, monitored = (
            statistics.median(each) * 1e6 for each in zip(*means, strict=True)
        )
        differences = [(b - a) * 1e6 for a, b in means]
        low, high = interval_of_median(differences)
        print(
            f"| {replicas} | {'yes' if is_heard else 'no'} "
            f"| {without:,.0f} µs | {monitored:,.0f} µs | "
            f"{statistics.median(differences):.1f} µs "
            f"({low:.1f} to {high:.1f}) |"
        )
    return None


if __name__ == "__main__":
    main()
