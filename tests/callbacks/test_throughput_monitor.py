import csv
import itertools
import math
import re

import keras
import problem
import pytest
import tensorflow as tf
from places import SHARED

import tfdp
from tfdp.throughput.rates import Rates

BATCH = 16


class Clock(keras.callbacks.Callback):
    """Time that passes as told; comes after the monitor that reads it."""

    def __init__(self, steps):
        super().__init__()
        self.now = 0.0
        self.steps = iter(steps)

    def __call__(self):
        return self.now

    def on_train_batch_begin(self, batch, logs=None):
        self.now += next(self.steps)

    def on_train_batch_end(self, batch, logs=None):
        self.now += 1000

    on_epoch_begin = on_epoch_end = on_train_batch_end
    on_test_batch_begin = on_test_batch_end = on_train_batch_end


def make_model(strategy, steps=1, *, model=problem.make_model, **compile):
    with strategy.scope():
        model = model()
        optimizer = tfdp.DistributedOptimizer(
            keras.optimizers.SGD(0.05), accumulation_steps=steps
        )
        model.compile(optimizer, "mse", **compile)
    return model


def fit(model, data, monitor, *more, **options):
    callbacks = [tfdp.callbacks.DataParallel(), monitor, *more]
    options = {"verbose": 0, **options}
    return model.fit(data, callbacks=callbacks, **options).history


def measured(strategy, num_samples, seconds, *, steps=1, warmup=1, **options):
    """Fits on a clock of which each step takes the next of `seconds`."""
    clock = Clock(seconds)
    monitor = tfdp.callbacks.ThroughputMonitor(
        warmup_updates=warmup, clock=clock
    )
    spe = options.pop("steps_per_execution", 1)
    model = make_model(strategy, steps, steps_per_execution=spe)
    data = problem.dataset(num_samples, BATCH)
    history = fit(model, data, monitor, clock, **options)
    return history, monitor.rates


def test_rates_are_samples_over_seconds_of_steps(strategy):
    replicas = strategy.num_replicas_in_sync
    history, rates = measured(
        strategy,
        4 * BATCH,
        [64.0, 0.25, 0.25, 0.5] + [0.5] * 4,
        epochs=2,
        validation_data=problem.dataset(BATCH, BATCH),
    )
    assert history["samples_per_second"] == [48.0, 32.0]
    assert history["worker_0_samples_per_second"] == [48.0, 32.0]
    assert history["step_seconds"] == [1 / 3, 0.5]
    assert history["worker_skew"] == [1.0, 1.0]
    each = [48.0 / replicas, 32.0 / replicas]
    assert history["replica_samples_per_second"] == each
    for i in range(replicas):
        assert history[f"replica_{i}_samples_per_second"] == each
    assert f"replica_{replicas}_samples_per_second" not in history
    assert rates == Rates(
        seconds=(3.0,), samples=((112 // replicas,) * replicas,), updates=7
    )


def test_accumulation_warms_up_by_updates_and_counts_them(two_replicas):
    history, rates = measured(
        two_replicas,
        10 * BATCH,
        [64.0] * 4 + [0.5] * 6 + [0.25] * 10,
        steps=4,
        epochs=2,
    )
    assert history["samples_per_second"] == [32.0, 64.0]
    # The last update of each epoch is of two micro-batches.
    assert rates == Rates((5.5,), ((128, 128),), updates=2 + 3)


def test_several_steps_per_execution_are_measured_together(two_replicas):
    history, rates = measured(
        two_replicas,
        8 * BATCH,
        [64.0, 1.0, 0.5] + [1.0, 1.0, 0.5],
        steps=2,
        epochs=2,
        steps_per_execution=3,
    )
    assert history["samples_per_second"] == [80 / 1.5, 128 / 2.5]
    assert rates == Rates((4.0,), ((104, 104),), updates=3 + 4)


def test_steps_that_make_a_graph_are_left_out(two_replicas):
    class Remade(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                self.model.make_train_function(force=True)

    clock = Clock([64.0, 0.5, 64.0, 0.5, 0.25])
    monitor = tfdp.callbacks.ThroughputMonitor(warmup_updates=0, clock=clock)
    data = problem.dataset(5 * BATCH, BATCH)
    fit(make_model(two_replicas), data, monitor, clock, Remade())
    assert monitor.rates == Rates((1.25,), ((24, 24),), updates=3)


def test_epochs_of_warm_up_have_the_keys_but_no_figures(
    two_replicas, tmp_path, capsys
):
    path = tmp_path / "log.csv"
    clock = Clock(itertools.repeat(0.5))
    monitor = tfdp.callbacks.ThroughputMonitor(
        warmup_updates=3, verbose=2, clock=clock
    )
    data = problem.dataset(3 * BATCH, BATCH)
    # Three micro-batches are an update by the flush that ends an epoch.
    fit(
        make_model(two_replicas, steps=4),
        data,
        monitor,
        clock,
        keras.callbacks.CSVLogger(path),
        epochs=5,
    )
    with path.open() as file:
        rows = list(csv.DictReader(file))
    rates = [float(row["samples_per_second"]) for row in rows]
    assert all(map(math.isnan, rates[:4]))
    assert rates[4] == 32.0
    assert monitor.rates == Rates((1.5,), ((24, 24),), updates=1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:5] == [
        *(f"epoch {i}: all of it was warm-up" for i in range(1, 5)),
        "epoch 5: 32 samples/s | replicas 16 16 | skew 1.00",
    ]


@pytest.mark.parametrize("num_samples", [256, 250, 193])
def test_every_sample_is_counted(strategy, num_samples):
    # The first epoch makes the graphs.
    _, rates = measured(
        strategy,
        num_samples,
        itertools.repeat(0.5),
        warmup=-(-num_samples // BATCH),
        epochs=3,
    )
    assert sum(rates.samples[0]) == 2 * num_samples
    assert len(rates.samples[0]) == strategy.num_replicas_in_sync


def test_arrays_are_measured_in_real_time(strategy):
    monitor = tfdp.callbacks.ThroughputMonitor()
    x, y = problem.arrays(193)
    history = fit(make_model(strategy), x, monitor, y=y, epochs=2)
    assert monitor.rates.samples_per_second > 0
    assert sum(monitor.rates.samples[0]) == 2 * 193 - 32
    assert len(history["samples_per_second"]) == 2


def test_callbacks_that_follow_see_the_rates(two_replicas):
    class Reader(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.seen = logs["samples_per_second"]

    reader = Reader()
    monitor = tfdp.callbacks.ThroughputMonitor()
    data = problem.dataset(4 * BATCH, BATCH)
    fit(make_model(two_replicas), data, monitor, reader)
    assert reader.seen == monitor.rates.samples_per_second


def test_stamps_are_read_at_the_end_of_a_window(two_replicas, monkeypatch):
    reads = []
    method = tfdp.step.meter.StepMeter.read
    monkeypatch.setattr(
        tfdp.step.meter.StepMeter,
        "read",
        lambda self: reads.append(self) or method(self),
    )
    measured(two_replicas, 20 * BATCH, itertools.repeat(0.5), epochs=3)
    # The end of each epoch; none of them fills a window.
    assert len(reads) == 3


def test_each_fit_is_measured_anew(two_replicas):
    clock = Clock([64.0, 0.5, 0.5] * 2)
    monitor = tfdp.callbacks.ThroughputMonitor(clock=clock)
    model = make_model(two_replicas)
    data = problem.dataset(3 * BATCH, BATCH)
    for _ in range(2):
        fit(model, data, monitor, clock)
        assert monitor.rates == Rates((1.0,), ((16, 16),), updates=2)


def test_training_outside_of_the_steps_is_not_measured(two_replicas):
    class Aside(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.train_on_batch(*problem.arrays(BATCH))

    monitor = tfdp.callbacks.ThroughputMonitor()
    model = make_model(two_replicas)
    model.fit(
        problem.dataset(2 * BATCH, BATCH),
        epochs=1,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel(), Aside(), monitor],
    )
    assert monitor.rates.samples == ((8, 8),)


def test_only_training_tells_when_it_asks_for_data(two_replicas):
    class Seen(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.tells = {"train": set(), "test": set()}

        def see(self, mode):
            is_told = two_replicas.request_clock is not None
            self.tells[mode].add(is_told)

        def on_train_batch_begin(self, batch, logs=None):
            self.see("train")

        def on_test_batch_begin(self, batch, logs=None):
            self.see("test")

    seen, monitor = Seen(), tfdp.callbacks.ThroughputMonitor(verbose=0)
    data = problem.dataset(3 * BATCH, BATCH)
    model = make_model(two_replicas)
    fit(model, data, monitor, seen, epochs=2, validation_data=data)
    assert seen.tells == {"train": {True}, "test": {False}}
    assert monitor.total.breakdown.share("start") > 0


def test_evaluation_on_its_own_is_ignored(two_replicas, capsys):
    monitor = tfdp.callbacks.ThroughputMonitor()
    data = problem.dataset(BATCH, BATCH)
    logs = make_model(two_replicas).evaluate(
        data, callbacks=[monitor], verbose=0, return_dict=True
    )
    assert set(logs) == {"loss"}
    assert not capsys.readouterr().out
    with pytest.raises(RuntimeError, match="after an epoch has ended"):
        _ = monitor.rates
    assert monitor.limit() is None


def test_lines_stand_apart_from_the_progress_bar(two_replicas, capsys):
    clock = Clock(itertools.repeat(0.5))
    monitor = tfdp.callbacks.ThroughputMonitor(verbose=2, clock=clock)
    data = problem.dataset(2 * BATCH, BATCH)
    fit(make_model(two_replicas), data, monitor, clock, epochs=2, verbose=1)
    shown = capsys.readouterr().out
    line = "samples/s | replicas 16 16 | skew 1.00\n"
    assert f"\nepoch 1: 32 {line}Epoch 2/2\n" in shown
    assert f"\nepoch 2: 32 {line}32 samples/s over 3 updates" in shown


@pytest.mark.parametrize("verbose", [1, 2])
def test_the_progress_bar_shows_the_rate_of_all_alone(
    two_replicas, capsys, verbose
):
    clock = Clock(itertools.repeat(0.5))
    monitor = tfdp.callbacks.ThroughputMonitor(
        samples_fn=lambda data: tf.size(data[1]), unit="rows", clock=clock
    )
    data = problem.dataset(2 * BATCH, BATCH)
    history = fit(
        make_model(two_replicas, metrics=["mae"]),
        data,
        monitor,
        clock,
        epochs=2,
        verbose=verbose,
        validation_data=data,
    )
    lines = capsys.readouterr().out.replace("\r", "\n").splitlines()
    names = r"loss|mae|val_loss|val_mae"
    figures = rf"(?: - (?:{names}): \d\.\d+){{4}} - rows/s: 32\.0000"
    assert sum(bool(re.search(rf"step{figures}$", x)) for x in lines) == 2
    assert not any("per_second" in line for line in lines)
    # One of tfdp's own at the end, and none in between.
    assert not any(line.startswith("epoch ") for line in lines)
    assert history["samples_per_second"] == [32.0, 32.0]
    assert history["replica_1_samples_per_second"] == [16.0, 16.0]


def test_a_rate_that_is_not_known_is_not_shown(two_replicas, capsys):
    monitor = tfdp.callbacks.ThroughputMonitor(warmup_updates=9)
    data = problem.dataset(2 * BATCH, BATCH)
    fit(make_model(two_replicas), data, monitor, verbose=2)
    assert re.search(r"- loss: \d\.\d+$", capsys.readouterr().out.strip())


def test_nothing_is_printed_when_asked_for_nothing(two_replicas, capsys):
    monitor = tfdp.callbacks.ThroughputMonitor(verbose=0)
    fit(make_model(two_replicas), problem.dataset(32, BATCH), monitor)
    assert not capsys.readouterr().out


class Listener(keras.callbacks.Callback):
    """Hears the windows of a monitor."""

    def __init__(self, monitor):
        super().__init__()
        self.monitor = monitor
        self.windows = []

    def on_train_begin(self, logs=None):
        self.monitor.listen(self.windows.append)


@pytest.mark.parametrize("together", [1, 2])
def test_windows_are_heard_where_they_end(two_replicas, together):
    monitor = tfdp.callbacks.ThroughputMonitor(window=2)
    listener = Listener(monitor)
    model = make_model(two_replicas, 2, steps_per_execution=together)
    data = problem.dataset(10 * BATCH, BATCH)
    fit(model, data, monitor, listener, epochs=2)
    windows = listener.windows
    assert [w.update for w in windows] == [2, 4, 5, 7, 9, 10]
    assert [w.rates.updates for w in windows] == [1, 2, 1, 2, 2, 1]
    assert [w.epoch for w in windows] == [0, 0, 0, 1, 1, 1]
    for window in windows:
        (row,) = window.rows()
        assert row["memory_bytes"] > 1e8
        for replica in row["replicas"]:
            parts = [v for k, v in replica.items() if k.endswith("_seconds")]
            assert sum(parts) == pytest.approx(row["seconds"], rel=0.05)


def test_windows_of_warm_up_are_not_heard(two_replicas):
    monitor = tfdp.callbacks.ThroughputMonitor(window=2, warmup_updates=4)
    listener = Listener(monitor)
    data = problem.dataset(6 * BATCH, BATCH)
    fit(make_model(two_replicas), data, monitor, listener)
    assert [w.update for w in listener.windows] == [6]


def test_long_epochs_without_listeners_lose_nothing(two_replicas, monkeypatch):
    module = "tfdp.callbacks.throughput_monitor"
    monkeypatch.setattr(f"{module}.CAPACITY", 4)
    monkeypatch.setattr(f"{module}._LONGEST_WINDOW", 8)
    clock = itertools.repeat(0.5)
    history, rates = measured(two_replicas, 19 * BATCH, clock, epochs=2)
    assert rates == Rates((18.5,), ((296, 296),), updates=37)
    assert history["samples_per_second"] == [32, 32]


def test_anything_can_be_counted_and_named(two_replicas, capsys):
    clock = Clock(itertools.repeat(0.5))
    monitor = tfdp.callbacks.ThroughputMonitor(
        samples_fn=lambda data: tf.size(data[0]),
        unit="numbers",
        flops_per_sample=100,
        verbose=2,
        clock=clock,
    )
    data = problem.dataset(3 * BATCH, BATCH)
    history = fit(make_model(two_replicas), data, monitor, clock)
    assert history["samples_per_second"] == [8 * BATCH / 0.5]
    assert history["flops_per_second"] == [100 * 8 * BATCH / 0.5]
    shown = capsys.readouterr().out
    assert "epoch 1: 256 numbers/s | replicas 128 128" in shown
    assert "256 numbers/s over 2 updates; ms per update" in shown


@pytest.mark.parametrize("count", [-1.0, float("nan")])
def test_counts_below_nothing_are_refused(two_replicas, count):
    monitor = tfdp.callbacks.ThroughputMonitor(
        samples_fn=lambda data: tf.constant(count)
    )
    with pytest.raises(ValueError, match=f"Received: {count}. Return how many"):
        fit(make_model(two_replicas), problem.dataset(48, BATCH), monitor)


def test_the_words_are_of_the_run_that_was_measured(two_replicas):
    monitor = tfdp.callbacks.ThroughputMonitor(verbose=0)
    fit(make_model(two_replicas), problem.dataset(64, BATCH), monitor)
    words = str(monitor.limit())
    with two_replicas.scope():
        other = problem.make_model()
        other.compile("sgd", "mse")
    other.evaluate(problem.dataset(16, BATCH), callbacks=[monitor], verbose=0)
    assert str(monitor.limit()) == words


def test_a_later_fit_without_it_is_not_counted(two_replicas):
    def count(data):
        x, _ = data
        return tf.size(x)

    monitor = tfdp.callbacks.ThroughputMonitor(samples_fn=count, verbose=0)
    model = make_model(two_replicas)
    x, y = problem.arrays(32)
    edges = tfdp.callbacks.DataParallel()
    options = {"batch_size": BATCH, "verbose": 0}
    model.fit(x, y, callbacks=[edges, monitor], **options)
    model.fit(x, y, sample_weight=y[:, 0], callbacks=[edges], **options)
    assert two_replicas.step_clock is two_replicas.request_clock is None
    model.fit(x, y, callbacks=[edges, monitor], **options)
    assert monitor.rates.samples == ((64, 64),)


def test_the_table_names_what_limits_the_run(two_replicas, capsys):
    clock = Clock(itertools.repeat(0.5))
    monitor = tfdp.callbacks.ThroughputMonitor(clock=clock)
    fit(make_model(two_replicas), problem.dataset(48, BATCH), monitor, clock)
    # A thousand seconds between steps.
    assert monitor.limit().kind == "callbacks"
    shown = " ".join(capsys.readouterr().out.split())
    assert f"tfdp: {monitor.limit()}" in shown
    assert "communication" in shown


def test_nothing_limits_a_run_of_warm_up(two_replicas, capsys):
    monitor = tfdp.callbacks.ThroughputMonitor(warmup_updates=9)
    fit(make_model(two_replicas), problem.dataset(48, BATCH), monitor)
    assert monitor.limit() is None
    assert capsys.readouterr().out == ""


@pytest.mark.filterwarnings("ignore:What callbacks remember")
def test_steps_that_a_resumed_run_skips_are_not_measured(
    two_replicas, tmp_path
):
    class Failure(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 4:
                raise InterruptedError

    def callbacks(clock, *more):
        monitor = tfdp.callbacks.ThroughputMonitor(clock=clock)
        backups = tfdp.callbacks.BackupAndRestore(tmp_path, save_freq=1)
        return monitor, [backups, monitor, clock, *more]

    data = problem.dataset(8 * BATCH, BATCH)
    _, first = callbacks(Clock(itertools.repeat(0.5)), Failure())
    with pytest.raises(InterruptedError):
        fit(make_model(two_replicas), data, *first)
    steps = [64.0] * 5 + [0.5] * 3
    monitor, again = callbacks(Clock(steps))
    fit(make_model(two_replicas), data, *again)
    # The first step after those that are skipped makes the graph.
    assert monitor.rates.samples == ((16, 16),)
    assert monitor.rates.seconds == (1.0,)


def test_optimizer_must_count_samples(two_replicas):
    with two_replicas.scope():
        model = problem.make_model()
        model.compile("sgd", "mse")
    with (
        pytest.warns(UserWarning, match="Wrap it: tfdp.DistributedOptimizer"),
        pytest.raises(RuntimeError) as caught,
    ):
        fit(
            model,
            problem.dataset(32, BATCH),
            tfdp.callbacks.ThroughputMonitor(),
        )
    assert str(caught.value) == (
        "`callbacks.ThroughputMonitor` needs an optimizer that counts "
        "samples. Received: SGD. Compile with "
        "`tfdp.DistributedOptimizer(inner_optimizer)`."
    )


def test_strategy_must_count_samples():
    model = make_model(tf.distribute.OneDeviceStrategy("CPU:0"))
    with pytest.raises(RuntimeError) as caught:
        fit(
            model,
            problem.dataset(32, BATCH),
            tfdp.callbacks.ThroughputMonitor(),
        )
    assert str(caught.value) == (
        "`callbacks.ThroughputMonitor` needs a strategy that counts samples. "
        "Received: OneDeviceStrategy. Build and compile the model "
        "in the scope of a tfdp strategy; `tfdp.auto_strategy()` returns one "
        "for any number of devices."
    )


def test_steps_must_update_with_the_optimizer(two_replicas):
    class Idle(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def call(self, inputs):
            return self.dense(inputs)

        def train_step(self, data):
            return {"loss": tf.reduce_mean(self(data[0]))}

    model = make_model(two_replicas, model=Idle)
    data = problem.dataset(4 * BATCH, BATCH)
    with pytest.raises(RuntimeError, match="an epoch that trained on none"):
        fit(model, data, tfdp.callbacks.ThroughputMonitor())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"warmup_updates": -1}, ValueError, "warmup_updates=-1"),
        ({"warmup_updates": 1.0}, TypeError, "warmup_updates=1.0"),
        ({"warmup_updates": True}, TypeError, "warmup_updates=True"),
        ({"window": 0}, ValueError, "window=0"),
        ({"samples_fn": 8}, TypeError, "samples_fn=8"),
        ({"clock": 0.0}, TypeError, "clock=0.0"),
        ({"flops_per_sample": 0}, ValueError, "flops_per_sample=0"),
        ({"flops_per_sample": float("nan")}, ValueError, "=nan"),
        ({"flops_per_sample": "a"}, TypeError, "='a'"),
        ({"unit": ""}, ValueError, "unit=''"),
    ],
)
def test_arguments_are_checked(arguments, error, message):
    with pytest.raises(error, match=f"Received: .*{message}"):
        tfdp.callbacks.ThroughputMonitor(**arguments)


@pytest.mark.multi_worker
def test_workers_measure_themselves_and_log_the_same():
    chief, other = tfdp.testing.run_workers(
        SHARED / "throughput.py", 2, timeout=400
    )
    # Batches of 64, 64, 64 and 58 samples; the first is warm-up.
    assert chief["own_samples"] == other["own_samples"] == [2 * 125]
    rates = {
        "seconds": [3.5, 7.0],
        "samples": [[2 * 125 - 32], [2 * 125 - 32]],
        "updates": 7,
    }
    assert chief["rates"] == other["rates"] == rates
    assert chief["history"] == other["history"]
    history = chief["history"]
    assert history["samples_per_second"] == [186 / 3, 250 / 4]
    assert history["worker_0_samples_per_second"] == [93 / 1.5, 125 / 2]
    assert history["worker_1_samples_per_second"] == [93 / 3, 125 / 4]
    assert history["replica_1_samples_per_second"] == [93 / 3, 125 / 4]
    assert history["worker_skew"] == [2, 2]
    # The clock moves before data is asked for.
    assert history["start_fraction"] == [1, 1]
    assert history["input_wait_fraction"] == [0, 0]
    assert chief["printed"].splitlines()[:2] == [
        "epoch 1: 62 samples/s | workers 62 31 | replicas 62 31 | skew 2.00",
        "epoch 2: 62.5 samples/s | workers 62.5 31.2 | replicas 62.5 31.2 "
        "| skew 2.00",
    ]
    assert other["printed"] == ""
    for worker in (chief, other):
        assert (
            "Received callbacks for all workers: ['ThroughputMonitor'] on "
            "worker 0, [] on worker 1." in worker["refused"]
        )
    # Windows of 2 after 8 updates before; they end on all workers alike.
    assert chief["windows"] == [10, 12, 13]
    assert other["windows"] == []


def test_it_is_told_of_its_place_before_anything_else_fails(two_replicas):
    with two_replicas.scope():
        model = problem.make_model()
        optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(0.05))
        model.compile(optimizer, "mse")
    callbacks = [
        tfdp.callbacks.ThroughputMonitor(verbose=0),
        tfdp.callbacks.DataParallel(),
    ]
    with pytest.raises(RuntimeError, match="ThroughputMonitor before it"):
        model.fit(problem.dataset(8, 8), verbose=0, callbacks=callbacks)


class Late(keras.Model):
    """A frozen model that its first step builds."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1, trainable=False)

    def call(self, x):
        return self.dense(x)


def weightless():
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((8,)),
            layers.Reshape((8, 1)),
            layers.GlobalAveragePooling1D(),
        ]
    )


def frozen():
    model = problem.make_model()
    model.trainable = False
    return model


@pytest.mark.parametrize("make", [frozen, Late, weightless])
@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.filterwarnings("ignore:The model does not have any trainable")
def test_a_model_without_trainable_weights_has_no_updates_to_measure(
    two_replicas, make, steps
):
    monitor = tfdp.callbacks.ThroughputMonitor(verbose=0)
    model = make_model(two_replicas, steps, model=make)
    with pytest.raises(RuntimeError, match="without trainable weights"):
        fit(model, problem.dataset(8, 8), monitor)
