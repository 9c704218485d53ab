"""What asynchronous workers see of themselves in a fit, with a slow one."""

import collections
import contextlib
import io
import json
import math
import pathlib
import time

import keras
import numpy as np
import pytest

import tfdp

SAMPLES, BATCH, EPOCHS, BOUND = 88, 8, 3, 1


class Slow(keras.callbacks.Callback):
    """Makes each step take longer, at the end of what others wait for."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def on_epoch_begin(self, epoch, logs=None):
        # Nobody is through before the other has come.
        strategy = self.model.distribute_strategy
        while strategy.is_chief and len(living(strategy)) < 2:
            time.sleep(0.05)

    def on_train_batch_end(self, batch, logs=None):
        time.sleep(self.seconds)


def living(strategy):
    return strategy.exchange.statistics()["living"]


def train(folder):
    strategy = tfdp.AsynchronousStrategy(max_staleness=BOUND)
    with strategy.scope():
        keras.utils.set_random_seed(1)
        model = keras.Sequential(
            [keras.Input((5,)), keras.layers.Dense(7), keras.layers.Dense(1)]
        )
        model.compile(
            tfdp.DistributedOptimizer(keras.optimizers.SGD(0.01)), "mse"
        )
    monitor = tfdp.callbacks.ThroughputMonitor(verbose=2)
    x = np.random.default_rng(0).normal(size=(SAMPLES, 5)).astype("float32")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        history = model.fit(
            x,
            x.sum(1, keepdims=True),
            batch_size=BATCH,
            epochs=EPOCHS,
            verbose=0,
            callbacks=[
                tfdp.callbacks.DataParallel(),
                # Before the monitor: within what it takes for the step.
                Slow(0.2 * strategy.worker_index),
                monitor,
                tfdp.callbacks.RunLogger(folder),
            ],
        ).history
    total = monitor.total
    found = {
        "history": {k: [float(x) for x in v] for k, v in history.items()},
        "parts": {
            part: getattr(total.breakdown, part)[0]
            for part in total.breakdown.parts
        },
        "seconds": total.rates.seconds[0],
        "printed": " ".join(printed.getvalue().split()),
        "limit": [monitor.limit().kind, str(monitor.limit())],
    }
    if strategy.is_chief:
        found["log"] = [list(row) for row in strategy.exchange.log()]
    return found


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    reports = tfdp.testing.run_workers(
        train, 2, [str(folder)], asynchronous=True, timeout=300
    )
    lines = pathlib.Path(folder, "run.jsonl").read_text().splitlines()
    return reports, [json.loads(line) for line in lines], folder


@pytest.mark.multi_worker
def test_all_updates_are_counted_by_worker(seen):
    (chief, other), rows, _ = seen
    for worker in (chief, other):
        counts = worker["history"]["updates_of_all_workers"]
        assert sum(counts) == len(chief["log"])
        assert len(counts) == EPOCHS
    expected = {0: collections.Counter(), 1: collections.Counter()}
    for worker, _, read, applied in chief["log"]:
        expected[worker][str(applied - read)] += 1
    counted = {0: collections.Counter(), 1: collections.Counter()}
    for row in rows:
        if row["kind"] == "staleness":
            counted[row["worker"]].update(row["staleness"])
            assert row["updates"] == sum(row["staleness"].values())
    assert counted == expected
    (begin,) = [row for row in rows if row["kind"] == "run"]
    assert begin["asynchronous"] == {"max_staleness": BOUND, "workers": 2}
    for worker, report in enumerate((chief, other)):
        largest = max(map(int, expected[worker]))
        assert max(report["history"]["staleness_max"]) == largest <= BOUND


@pytest.mark.multi_worker
def test_the_parts_of_the_time_add_up(seen):
    for worker in seen[0]:
        parts = worker["parts"]
        assert sum(parts.values()) == pytest.approx(worker["seconds"], rel=0.01)
        last = worker["history"]["room_wait_fraction"][-1]
        assert 0 <= last <= 1
        assert not math.isnan(last)


@pytest.mark.multi_worker
@pytest.mark.long
def test_the_fast_worker_waits_and_the_slow_one_is_named(seen):
    (chief, other), rows, _ = seen
    assert chief["parts"]["room"] > 0.4 * chief["seconds"]
    assert other["parts"]["room"] < 0.2 * other["seconds"]
    # What it waits for is neither data nor communication.
    assert chief["parts"]["input"] < 0.2 * chief["seconds"]
    assert chief["parts"]["communication"] < 0.2 * chief["seconds"]
    kind, words = chief["limit"]
    assert kind == "room"
    assert "at max_staleness=1; max_staleness=" in words
    assert "Worker 1 takes" in words
    assert "look at what else runs there" in words
    assert f"tfdp: {words}" in chief["printed"]
    updates = f"{len(chief['log'])} updates of all workers"
    assert f"{updates}, at max_staleness=1" in chief["printed"]
    assert " updates of all workers | staleness " in chief["printed"]
    (end,) = [row for row in rows if row["kind"] == "end"]
    assert (end["limit"], end["words"]) == ("room", words)
    assert end["room_words"] == words
