"""What holds a run back is found, where it is known by construction."""

import time

import keras
import problem
import pytest
import tensorflow as tf
from places import SHARED

import tfdp
from tfdp.callbacks.feeding import feed_of_fit
from tfdp.throughput import Feed
from tfdp.upstream.keras import keras_data

BATCH = 16
UPDATES = 6


def asleep(seconds, tensor):
    """`tensor`, so many seconds later; replicas do not wait in turn."""

    def sleep(value, seconds):
        time.sleep(float(seconds))
        return value

    late = tf.numpy_function(
        sleep, [tensor, seconds], tensor.dtype, stateful=False
    )
    return tf.ensure_shape(late, tensor.shape)


class Slow(keras.layers.Layer):
    """Takes 0.1 seconds, and 0.3 on the second replica."""

    def call(self, x):
        context = tf.distribute.get_replica_context()
        if context is None:
            return x
        is_second = tf.equal(context.replica_id_in_sync_group, 1)
        late = asleep(tf.where(is_second, 0.3, 0.1), tf.stop_gradient(x))
        return x + 0 * late


class SlowReduction(tf.distribute.ReductionToOneDevice):
    """Takes 0.2 seconds more."""

    def batch_reduce_implementation(self, op, pairs, options):
        reduced = super().batch_reduce_implementation(op, pairs, options)
        late = 0 * tf.reduce_sum(asleep(0.2, reduced[0].values[0]))
        return [
            type(each)([value + late for value in each.values])
            for each in reduced
        ]


def trained(strategy, *layers, data=None, updates=UPDATES):
    with strategy.scope():
        model = keras.Sequential(
            [keras.Input((8,)), *layers, keras.layers.Dense(1)]
        )
        model.compile(
            tfdp.DistributedOptimizer(keras.optimizers.SGD(0.05)), "mse"
        )
    monitor = tfdp.callbacks.ThroughputMonitor(warmup_updates=2, verbose=0)
    model.fit(
        data or problem.dataset(updates * BATCH, BATCH),
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel(), monitor],
    )
    return monitor


def test_a_slow_replica_is_named(two_replicas):
    monitor = trained(two_replicas, Slow())
    found, breakdown = monitor.limit(), monitor.total.breakdown
    updates = monitor.rates.updates
    assert found.kind == "straggler"
    assert "replica 1 (worker 0) takes" in str(found)
    assert breakdown.skew == pytest.approx(3, rel=0.15)
    assert breakdown.compute[0] / updates == pytest.approx(0.1, rel=0.15)
    assert breakdown.compute[1] / updates == pytest.approx(0.3, rel=0.15)
    assert breakdown.waiting[0] / updates == pytest.approx(0.2, rel=0.15)
    assert monitor.rates.samples_per_second == pytest.approx(
        BATCH / 0.3, rel=0.15
    )


def test_a_slow_input_is_named(two_replicas):
    data = problem.dataset(UPDATES * BATCH, BATCH)
    data = data.map(lambda x, y: (asleep(0.2, x), y))
    monitor = trained(two_replicas, data=problem.untuned(data))
    assert monitor.limit().kind == "input"
    seconds = monitor.total.breakdown.input[0] / monitor.rates.updates
    assert seconds == pytest.approx(0.2, rel=0.15)
    assert monitor.rates.samples_per_second == pytest.approx(
        BATCH / 0.2, rel=0.15
    )


def rows():
    x, y = problem.arrays(4 * BATCH)
    return [
        (x[i : i + BATCH], y[i : i + BATCH]) for i in range(0, len(x), BATCH)
    ]


class Batches(keras.utils.PyDataset):
    """The same, one after the other."""

    def __len__(self):
        return len(rows())

    def __getitem__(self, index):
        return rows()[index]


def pipeline():
    return problem.dataset(4 * BATCH, BATCH)


def from_python():
    kinds = (tf.TensorSpec((None, 8)), tf.TensorSpec((None, 1)))
    data = tf.data.Dataset.from_generator(rows, output_signature=kinds)
    return data.prefetch(2)


@pytest.mark.parametrize(
    ("make_data", "kind", "end"),
    [
        (pipeline, "dataset", ["Options", "Batch", "TensorSlice"]),
        (lambda: pipeline().prefetch(2), "dataset", ["Prefetch", "Options"]),
        (from_python, "dataset", ["Prefetch"]),
        (lambda: problem.arrays(4 * BATCH), "arrays", []),
        (lambda: (r for r in rows()), "generator", []),
        (Batches, "PyDataset", []),
    ],
)
def test_what_feeds_a_fit_is_known(two_replicas, make_data, kind, end):
    (feed,) = feeds(two_replicas, make_data())
    assert feed.kind == kind
    assert list(feed.steps[: len(end)]) == end


def feeds(strategy, data):
    """What is found in each epoch of a fit."""
    found = []

    class Asking(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            found.append(feed_of_fit())

    with strategy.scope():
        model = problem.make_model()
        model.compile("sgd", "mse")
    data = data if isinstance(data, tuple) else (data,)
    model.fit(*data, steps_per_epoch=2, verbose=0, callbacks=[Asking()])
    return found


def test_no_training_fails_for_an_advice(two_replicas, monkeypatch):
    monkeypatch.setattr(keras_data._array_adapter, "places", ("keras.gone",))
    assert feeds(two_replicas, pipeline()) == [Feed()]
    assert feed_of_fit() == Feed()


def test_slow_communication_is_named():
    strategy = tfdp.MirroredStrategy(["CPU:0", "CPU:1"], SlowReduction())
    monitor = trained(strategy)
    assert monitor.limit().kind == "communication"
    for seconds in monitor.total.breakdown.communication:
        assert seconds / monitor.rates.updates == pytest.approx(0.2, rel=0.15)


def test_slow_callbacks_are_named(two_replicas):
    class Slow(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            time.sleep(0.2)

    with two_replicas.scope():
        model = problem.make_model()
        model.compile(tfdp.DistributedOptimizer(keras.optimizers.SGD()), "mse")
    monitor = tfdp.callbacks.ThroughputMonitor(verbose=0)
    model.fit(
        problem.dataset(UPDATES * BATCH, BATCH),
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel(), monitor, Slow()],
    )
    assert monitor.limit().kind == "callbacks"
    # But for the time after the first step, in which graphs were made.
    between = monitor.total.breakdown.between[0] / (monitor.rates.updates - 1)
    assert between == pytest.approx(0.2, rel=0.15)


@pytest.fixture(scope="module")
def two_workers():
    return tfdp.testing.run_workers(
        SHARED / "large_gradients.py", 2, timeout=400
    )


@pytest.mark.long
@pytest.mark.multi_worker
def test_a_worker_that_is_late_between_steps_is_named(two_workers):
    for found in two_workers:
        kind, words = found["late"]
        assert kind == "straggler"
        assert "replica 1 (worker 1) takes" in words
        assert "an update between its steps" in words
        # The other one waits for its gradients.
        gaps = found["late updates"] - 1
        assert found["between"][1] / gaps == pytest.approx(0.2, rel=0.15)
        assert found["waiting"][0] / gaps == pytest.approx(0.2, rel=0.15)


@pytest.mark.long
@pytest.mark.multi_worker
def test_large_gradients_between_workers_are_named(two_workers):
    chief, other = two_workers
    for found in (chief, other):
        assert found["limit"] == "communication"
        assert "accumulation_steps=" in found["words"]
        assert found["share"] > 0.5
        # An all-reduce of as many bytes on its own; both cores are busy.
        assert 0.4 < found["communication"] / found["bare"] < 2.5
    assert chief["communication"] == other["communication"]
