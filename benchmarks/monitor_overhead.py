"""What `ThroughputMonitor` costs, in microseconds per step.

    python benchmarks/monitor_overhead.py [--quick]

Trains two like models of tiny steps in turns, a stretch with the monitor and a
stretch without, in one process per number of replicas. A step is measured from
its begin to the begin of the next, so that everything between is in it: stamps
in the graph, hooks, and the ends of windows. The table shows the median over
the stretches of their means, and of the differences of neighbours, with the
interval that holds the median of differences with 95 % confidence.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time

STEPS = 300
WIDTH = 16


def measure(replicas, stretches):
    import keras
    import numpy as np
    import tensorflow as tf

    import tfdp

    strategy = tfdp.MirroredStrategy(tfdp.testing.logical_cpus(replicas))

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.begins = []

        def on_train_batch_begin(self, batch, logs=None):
            self.begins.append(time.perf_counter())

        def on_epoch_end(self, epoch, logs=None):
            # A graph is made in the first steps of the first stretch.
            begins = self.begins[16:]
            self.seconds = (begins[-1] - begins[0]) / (len(begins) - 1)

    class Trained:
        def __init__(self, monitors):
            with strategy.scope():
                self.model = keras.Sequential(
                    [keras.Input((WIDTH,)), keras.layers.Dense(10)]
                )
                self.model.compile(
                    tfdp.DistributedOptimizer(keras.optimizers.SGD(0.01)),
                    "mse",
                )
            self.clock = Clock()
            self.callbacks = [
                tfdp.callbacks.DataParallel(),
                *monitors,
                self.clock,
            ]

        def seconds(self):
            self.model.fit(
                data,
                steps_per_epoch=STEPS,
                verbose=0,
                shuffle=False,
                callbacks=self.callbacks,
            )
            return self.clock.seconds

    batch = 32 * replicas
    one = (np.ones((batch, WIDTH), "float32"), np.ones((batch, 10), "float32"))
    data = tf.data.Dataset.from_tensors(one).repeat()
    without = Trained([])
    monitored = Trained([tfdp.callbacks.ThroughputMonitor(verbose=0)])
    for each in (without, monitored):
        each.seconds()
    print(
        json.dumps(
            [(without.seconds(), monitored.seconds()) for _ in range(stretches)]
        )
    )


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
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        return measure(*map(int, arguments.one))
    stretches = 6 if arguments.quick else 40
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} "
        f"cores, {stretches} x {STEPS} steps each"
    )
    print("| replicas | step without | with | difference (95 % interval) |")
    print("| --- | --- | --- | --- |")
    for replicas in (1, 2):
        pairs = in_own_process(replicas, stretches)
        without, monitored = (
            statistics.median(each) * 1e6 for each in zip(*pairs, strict=True)
        )
        differences = [(b - a) * 1e6 for a, b in pairs]
        low, high = interval_of_median(differences)
        print(
            f"| {replicas} | {without:,.0f} µs | {monitored:,.0f} µs | "
            f"{statistics.median(differences):.1f} µs "
            f"({low:.1f} to {high:.1f}) |"
        )
    return None


if __name__ == "__main__":
    main()
