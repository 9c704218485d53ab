"""What two workers gain where they meet once in a step beside the gradients.

    python benchmarks/between_steps.py [--quick]

Trains two networks, with 1 and 8 micro-steps per update, both ways in turns: in
one message per step, and apart: each entry of the logs, whether there are data,
and votes on stops by themselves. Times are of micro-steps, after those in which
graphs are made and without what ends an epoch; the last column is the median of
the ratios of turns. Both ways must come to the same losses.
"""

import argparse
import pathlib
import statistics
import time

from harness.table import print_head, print_row

MODELS = {"tiny": (16, 10), "large": (1024, 2048, 2048, 2048, 10)}
STEPS = {"tiny": 160, "large": 24}
ACCUMULATION = (1, 8)
WORKERS, PER_REPLICA_BATCH, WARM_UP = 2, 32, 8


def work(names, rounds):
    """Trains as one of the workers, and reports the times of both ways."""
    import tfdp
    from tfdp.strategy.distributed_dataset import CountedDataset

    strategy = tfdp.auto_strategy()
    message, end_together = strategy.message, CountedDataset.end_together

    def meet(way):
        strategy.message = message if way == "together" else None
        CountedDataset.end_together = (
            end_together if way == "together" else lambda self: None
        )

    report = {}
    for name in names.split(","):
        for accumulation_steps in ACCUMULATION:
            times = {"apart": [], "together": []}
            models, losses = {}, {}
            for way in times:
                meet(way)
                models[way] = made(strategy, MODELS[name], accumulation_steps)
                trained(models[way], name)
            for turn in range(int(rounds)):
                for way in list(times)[:: 1 if turn % 2 else -1]:
                    meet(way)
                    seconds, losses[way] = trained(models[way], name)
                    times[way].append(seconds)
            if losses["apart"] != losses["together"]:
                raise SystemExit(f"Losses differ: {losses}")
            report[f"{name},{accumulation_steps}"] = times
    tfdp.testing.report(report)


def made(strategy, widths, accumulation_steps):
    """Returns a model that begins with the same weights each time."""
    import keras

    import tfdp

    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input((widths[0],)),
                *(keras.layers.Dense(width) for width in widths[1:]),
            ]
        )
        inner = keras.optimizers.SGD(1e-6, momentum=0.9)
        optimizer = tfdp.DistributedOptimizer(inner, accumulation_steps)
        model.compile(optimizer, "mse", metrics=["mae"])
    return model


def trained(model, name):
    """Trains for an epoch; returns seconds per micro-step, and the loss."""
    import keras
    import numpy as np
    import tensorflow as tf

    import tfdp

    stamps = []

    class Stamps(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            stamps.append(time.perf_counter())

    widths, batch = MODELS[name], WORKERS * PER_REPLICA_BATCH
    one = np.ones((batch, widths[0])), np.ones((batch, widths[-1]))
    history = model.fit(
        tf.data.Dataset.from_tensors(one).repeat(STEPS[name]),
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel(), Stamps()],
    ).history
    seconds = stamps[-1] - stamps[WARM_UP]
    return seconds / (len(stamps) - 1 - WARM_UP), history["loss"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        return work(*arguments.work)
    import tfdp

    names = list(MODELS)[: 1 if arguments.quick else None]
    rounds = 2 if arguments.quick else 9
    report, *_ = tfdp.testing.run_workers(
        pathlib.Path(__file__).resolve(),
        WORKERS,
        ["--work", ",".join(names), str(rounds)],
        timeout=900,
    )
    columns = ("apart, ms", "together, ms", "times as fast")
    print_head("model", "accumulation", *columns)
    for case, times in report.items():
        ratios = [
            a / b
            for a, b in zip(times["apart"], times["together"], strict=True)
        ]
        medians = [1000 * statistics.median(each) for each in times.values()]
        print_row(
            *case.split(","),
            *(f"{median:.2f}" for median in medians),
            f"{statistics.median(ratios):.2f}",
        )
    return None


if __name__ == "__main__":
    main()
