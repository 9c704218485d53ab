"""What `ThroughputMonitor` costs, in microseconds per step.

    python benchmarks/monitor_overhead.py [--quick]

Trains three like models of tiny steps in one process, a step of each in turns,
so that all meet the same machine: one without the monitor, one with it (stamps
in the graph, hooks around the step), and one where somebody listens, as
`RunLogger` does, so that a window ends every 100 steps. The table shows medians
over stretches of 100 steps, and the interval that holds the median difference
with 95 % confidence.
"""

import argparse
import itertools
import json
import statistics
import time

from harness.own_process import in_own_process
from harness.table import print_head, print_row

WINDOW = 100
WIDTH = 16


def measure(replicas, stretches):
    import keras
    import numpy as np
    import tensorflow as tf

    import tfdp

    devices = tfdp.testing.logical_cpus(replicas)
    batch = 32 * replicas
    one = (np.ones((batch, WIDTH), "float32"), np.ones((batch, 10), "float32"))
    data = tf.data.Dataset.from_tensors(one).repeat()

    def step_of(monitor=None, listener=None):
        # A strategy's steps are stamped, or not.
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
            callbacks=[monitor] if monitor else [],
        )
        batches = iter(strategy.experimental_distribute_dataset(data))
        if monitor is None:
            return lambda: model.train_function(batches)
        monitor.on_train_begin()
        if listener:
            monitor.listen(listener)
        monitor.on_epoch_begin(0)
        numbers = itertools.count()

        def step():
            number = next(numbers)
            monitor.on_train_batch_begin(number)
            model.train_function(batches)
            monitor.on_train_batch_end(number)

        return step

    def seconds_of(function):
        begin = time.perf_counter()
        function()
        return time.perf_counter() - begin

    def monitor():
        return tfdp.callbacks.ThroughputMonitor(window=WINDOW, verbose=0)

    steps = [
        step_of(),
        step_of(monitor()),
        step_of(monitor(), listener=lambda window: None),
    ]
    means = []
    for _ in range(stretches):
        rows = [[seconds_of(step) for step in steps] for _ in range(WINDOW)]
        means.append(
            [statistics.mean(each) for each in zip(*rows, strict=True)]
        )
    print(json.dumps(means))


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
    stretches = 5 if arguments.quick else 100
    print_head(
        *("replicas", "", "step", "difference (95 % interval)"),
        more=[f"{stretches * WINDOW:,} steps each"],
    )
    for replicas in (1, 2):
        means = in_own_process(__file__, replicas, stretches)
        for place, name in enumerate(("without", "monitor", "and listener")):
            step = statistics.median(row[place] for row in means) * 1e6
            differences = [(row[place] - row[0]) * 1e6 for row in means]
            low, high = interval_of_median(differences)
            middle = statistics.median(differences)
            print_row(
                *(replicas, name, f"{step:,.0f} µs"),
                f"{middle:.1f} µs ({low:.1f} to {high:.1f})" if place else "",
            )
    return None


if __name__ == "__main__":
    main()
