import threading

import keras
import numpy as np
import problem
import pytest
import tensorflow as tf

import tfdp
from tfdp.step.meter import Settings, StepMeter
from tfdp.step.requests import RequestLog

BATCH = 16
UPDATES = 6


def metered(strategy, *, capacity=64, **compile):
    """A compiled model whose steps are timed, and its meter."""
    with strategy.scope():
        model = problem.make_model()
        optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(0.05))
        model.compile(optimizer, "mse", **compile)
    meter = optimizer.measure_time(StepMeter(Settings(capacity=capacity)))
    meter.start(strategy)
    return model, meter


def fit(model, steps=UPDATES, **options):
    model.fit(problem.dataset(steps * BATCH, BATCH), verbose=0, **options)


@pytest.mark.parametrize("eagerly", [False, True], ids=["graph", "eager"])
@pytest.mark.parametrize("cardinality", ["known", "unknown", "infinite"])
def test_data_is_asked_for_before_it_is_there(strategy, eagerly, cardinality):
    model, meter = metered(strategy, run_eagerly=eagerly)
    data = problem.dataset(UPDATES * BATCH, BATCH)
    if cardinality == "unknown":
        data = data.filter(lambda *_: True)
    if cardinality == "infinite":
        data = data.repeat()
    model.fit(data, steps_per_epoch=UPDATES, verbose=0)
    asked = meter.requests.read()
    assert asked.shape == (UPDATES,)
    for rows in meter.read():
        began, ready, _, _ = rows.T
        assert np.all(asked <= began)
        assert np.all(ready[:-1] <= asked[1:])
    assert meter.requests.read().size == 0


def test_steps_executed_together_ask_once_each(two_replicas):
    model, meter = metered(two_replicas, steps_per_execution=3)
    fit(model)
    asked = meter.requests.read()
    assert len(asked) == UPDATES
    for rows in meter.read():
        assert np.all(asked <= rows[:, 0])
    assert np.all(np.diff(asked) > 0)


def test_of_too_many_requests_the_oldest_are_lost(two_replicas):
    model, meter = metered(two_replicas, capacity=4)
    fit(model)
    asked = meter.requests.read()
    assert len(asked) == 4
    assert np.all(np.diff(asked) > 0)


def test_what_is_read_in_a_pause_or_after_the_end_is_not_noticed(two_replicas):
    model, meter = metered(two_replicas)
    fit(model)
    assert len(meter.requests.read()) == UPDATES
    meter.pause()
    model.evaluate(problem.dataset(BATCH, BATCH), verbose=0)
    fit(model)
    assert len(meter.requests.read()) == 0
    meter.resume()
    fit(model)
    assert len(meter.requests.read()) == UPDATES
    meter.stop()
    meter.resume()
    fit(model)
    assert len(meter.requests.read()) == 0
    assert two_replicas.request_clock is None


class Clock(keras.callbacks.Callback):
    """Time that passes where it is told to: before data is asked for.

    It comes after the monitor.
    """

    def __init__(self):
        super().__init__()
        self.now = 0.0

    def __call__(self):
        return self.now

    def on_train_batch_begin(self, batch, logs=None):
        self.now += 0.25


class Late(keras.callbacks.Callback):
    """Passes time at the end of a step; comes before the monitor."""

    def __init__(self, clock):
        super().__init__()
        self.clock = clock

    def on_train_batch_end(self, batch, logs=None):
        self.clock.now += 0.5


@pytest.mark.parametrize("seconds", [0.0, 0.25, 4.0])
def test_what_a_pipeline_takes_is_waiting_for_data_and_nothing_else(
    strategy, monkeypatch, seconds
):
    """Reading takes so many seconds, and begins when data is asked for."""
    clock, is_asked = Clock(), threading.Semaphore(0)
    stamp = RequestLog.stamp

    def released(self):
        with tf.control_dependencies([stamp(self)]):
            now = tf.py_function(is_asked.release, [], [])
        with tf.control_dependencies([now]):
            return tf.zeros(())

    def read(x, y):
        assert is_asked.acquire(timeout=60)
        clock.now += seconds
        return x, y

    monkeypatch.setattr(RequestLog, "stamp", released)
    data = problem.dataset(UPDATES * BATCH, BATCH)
    kinds = [spec.dtype for spec in data.element_spec]
    spec = data.element_spec

    def slow(x, y):
        tensors = tf.numpy_function(read, [x, y], kinds)
        return tuple(
            tf.ensure_shape(tensor, each.shape)
            for tensor, each in zip(tensors, spec, strict=True)
        )

    with strategy.scope():
        model = problem.make_model()
        optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(0.05))
        model.compile(optimizer, "mse")
    monitor = tfdp.callbacks.ThroughputMonitor(clock=clock, verbose=0)
    edges = tfdp.callbacks.DataParallel()
    logs = model.fit(
        problem.untuned(data.map(slow)),
        verbose=0,
        callbacks=[edges, Late(clock), monitor, clock],
    ).history
    whole = 0.25 + seconds + 0.5
    assert logs["step_seconds"] == [pytest.approx(whole)]
    assert logs["start_fraction"] == [pytest.approx(0.25 / whole)]
    assert logs["input_wait_fraction"] == [pytest.approx(seconds / whole)]
    assert logs["compute_fraction"] == [0]
    breakdown = monitor.total.breakdown
    assert breakdown.share("other") == pytest.approx(0.5 / whole)
