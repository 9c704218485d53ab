"""`fit` in an AsynchronousStrategy, in this process alone."""

import functools
import os
import signal
import socket
import time

import asynchronous_fit
import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdp
from tfdp.asynchronous.session import ServerLost

# The server sums in other orders than a graph of Keras's step.
ROUNDING = 2e-6
CPUS = ["CPU:0", "CPU:1"]


def make_model(**kwargs):
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(7, "tanh"),
            keras.layers.BatchNormalization(**kwargs),
            keras.layers.Dense(1),
        ]
    )


@functools.cache
def strategy_of(devices=1):
    # Its server takes seconds to start.
    return tfdp.AsynchronousStrategy(0, devices=CPUS[:devices])


@pytest.fixture(autouse=True, scope="module")
def _strategies_end():
    yield
    strategy_of.cache_clear()


def compiled(optimizer, strategy=None, model=make_model, **kwargs):
    with (strategy or strategy_of()).scope():
        made = model()
        made.compile(
            tfdp.DistributedOptimizer(optimizer, **kwargs),
            "mse",
            metrics=["mae"],
        )
    return made


def fit(model, callbacks=(), **kwargs):
    x, y = asynchronous_fit.samples()
    edges = [tfdp.callbacks.DataParallel(), *callbacks]
    return model.fit(
        x,
        y,
        batch_size=asynchronous_fit.BATCH,
        validation_data=(x, y),
        verbose=0,
        shuffle=False,
        callbacks=edges,
        **{"epochs": 2, **kwargs},
    )


@pytest.mark.long
def test_the_log_is_of_the_weights_that_are_trained():
    first = compiled(keras.optimizers.SGD(0.1))
    fit(first, epochs=1)
    fit(first, epochs=1)
    log = strategy_of().exchange.log()
    assert [update.applied for update in log] == list(range(12))
    assert int(first.optimizer.iterations.numpy()) == 12
    # Another of the same kind.
    fit(compiled(keras.optimizers.SGD(0.1)), epochs=1)
    assert strategy_of().exchange.log() == log[:6]


def plain(optimizer, model=make_model, batch_size=8, epochs=2):
    made = model()
    made.compile(optimizer, "mse", metrics=["mae"])
    x, y = asynchronous_fit.samples()
    history = made.fit(
        x,
        y,
        batch_size=batch_size,
        epochs=epochs,
        verbose=0,
        shuffle=False,
        validation_data=(x, y),
    )
    return made, history


def distance(one, other):
    pairs = zip(one.get_weights(), other.get_weights(), strict=True)
    return max(np.abs(a - b).max() for a, b in pairs)


@pytest.mark.sampled
@pytest.mark.parametrize("name", asynchronous_fit.OPTIMIZERS)
def test_a_worker_alone_is_one_device(name):
    make = asynchronous_fit.OPTIMIZERS[name]
    model = compiled(make())
    history = fit(model)
    expected, expected_history = plain(make())
    assert distance(model, expected) < ROUNDING
    for key, values in expected_history.history.items():
        np.testing.assert_allclose(history.history[key], values, rtol=1e-6)
    own = model.optimizer.inner_optimizer
    for a, b in zip(own.variables, expected.optimizer.variables, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=ROUNDING)
    assert int(model.optimizer.iterations.numpy()) == 12


def test_replicas_of_a_worker_are_one_device():
    def model():
        return make_model(synchronized=True)

    made = compiled(keras.optimizers.Adam(0.01), strategy_of(2), model)
    fit(made)
    assert distance(made, plain(keras.optimizers.Adam(0.01))[0]) < 2e-6


def test_accumulation_sends_one_gradient_per_cycle():
    model = asynchronous_fit.make_model
    made = compiled(
        keras.optimizers.SGD(0.05, 0.9), model=model, accumulation_steps=2
    )
    fit(made, epochs=1)
    expected, _ = plain(
        keras.optimizers.SGD(0.05, 0.9), model, batch_size=16, epochs=1
    )
    assert distance(made, expected) < 1e-6
    exchange = made.distribute_strategy.exchange
    assert exchange.statistics()["version"] == 3


@pytest.mark.long
def test_a_second_fit_may_train_another_part():
    def freeze(model):
        model.layers[0].trainable = False
        model.compile(type(model.optimizer).from_config(config), "mse")

    made = compiled(keras.optimizers.Adam(0.01))
    config = made.optimizer.get_config()
    fit(made)
    with made.distribute_strategy.scope():
        freeze(made)
    fit(made)
    expected, _ = plain(keras.optimizers.Adam(0.01))
    expected.layers[0].trainable = False
    expected.compile(keras.optimizers.Adam(0.01), "mse")
    x, y = asynchronous_fit.samples()
    expected.fit(x, y, batch_size=8, epochs=2, verbose=0, shuffle=False)
    assert distance(made, expected) == 0


def test_weights_and_rates_set_between_fits_count():
    made = compiled(keras.optimizers.SGD(0.05, 0.9))
    expected, _ = plain(keras.optimizers.SGD(0.05, 0.9))
    fit(made)
    x, y = asynchronous_fit.samples()
    for model in (made, expected):
        model.set_weights([w * 0.5 for w in model.get_weights()])
        model.optimizer.learning_rate = 0.01
    fit(made)
    expected.fit(x, y, batch_size=8, epochs=2, verbose=0, shuffle=False)
    assert distance(made, expected) < ROUNDING


def test_callbacks_set_the_learning_rate():
    def rate(epoch, _):
        return 0.05 / (1 + epoch)

    def scheduler():
        return keras.callbacks.LearningRateScheduler(rate)

    made = compiled(keras.optimizers.SGD(0.5))
    fit(made, [scheduler()], epochs=3)
    model = make_model()
    model.compile(keras.optimizers.SGD(0.5), "mse")
    x, y = asynchronous_fit.samples()
    model.fit(
        x,
        y,
        batch_size=8,
        epochs=3,
        verbose=0,
        shuffle=False,
        callbacks=[scheduler()],
    )
    assert distance(made, model) < ROUNDING


def test_an_overflow_skips_an_update():
    made = compiled(keras.optimizers.SGD(0.05), loss_scale=2.0**127)
    fit(made, epochs=1)
    assert int(made.optimizer.skipped_updates.numpy()) == 6
    statistics = made.distribute_strategy.exchange.statistics()
    assert statistics["skipped"] == {"0": 6}
    assert statistics["version"] == 0


def test_a_stop_ends_the_fit():
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 1

    made = compiled(keras.optimizers.SGD(0.05))
    history = fit(made, [Stop()], epochs=5)
    assert history.epoch == [0]
    assert int(made.optimizer.iterations.numpy()) == 2


def test_a_lost_server_is_named():
    class Kill(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            os.kill(strategy._server.pid, signal.SIGKILL)

    strategy = tfdp.AsynchronousStrategy(devices=CPUS[:1])
    made = compiled(keras.optimizers.SGD(0.05), strategy)
    with pytest.raises(ServerLost, match="worker 0 has lost the server"):
        fit(made, [Kill()])


def test_a_fit_needs_its_edges():
    made = compiled(keras.optimizers.SGD(0.05))
    with pytest.raises(Exception, match="callbacks.DataParallel"):
        made.fit(*asynchronous_fit.samples(), verbose=0)


@pytest.mark.parametrize(
    ("way", "name"),
    [
        (tfdp.LocalSGD(2), "LocalSGD"),
        (tfdp.Delayed(), "Delayed"),
        (tfdp.ShardedState(), "ShardedState"),
    ],
)
def test_other_ways_are_refused(way, name):
    with pytest.raises(ValueError, match=f"synchronization={name}"):
        compiled(keras.optimizers.SGD(0.05), synchronization=way)


def test_compression_is_refused():
    with pytest.raises(ValueError, match="Asynchronous cannot go with `comp"):
        compiled(keras.optimizers.SGD(0.05), compression="bfloat16")


def test_one_optimizer_is_served():
    with strategy_of().scope():
        made = make_model()
        made.compile("sgd", "mse")
    with pytest.raises(RuntimeError, match="Received: SGD"):
        fit(made)


def test_a_callback_that_meets_is_refused():
    class Meeting(keras.callbacks.Callback):
        is_collective = True

    made = compiled(keras.optimizers.SGD(0.05))
    with pytest.raises(RuntimeError, match="Received: Meeting"):
        fit(made, [Meeting()])


@pytest.mark.parametrize("bound", [-1, 1.5, True])
def test_a_bound_is_a_count(bound):
    with pytest.raises(ValueError, match="`max_staleness` must be an integer"):
        tfdp.AsynchronousStrategy(max_staleness=bound)


def test_several_workers_need_a_secret(monkeypatch):
    monkeypatch.delenv("TFDP_JOB_SECRET", raising=False)
    cluster = tfdp.Cluster.of(["127.0.0.1:1", "127.0.0.1:2"], 1)
    with pytest.raises(ValueError, match="Received: 2 workers without TFDP_"):
        tfdp.AsynchronousStrategy(cluster=cluster)


def test_a_missing_chief_is_told(monkeypatch):
    monkeypatch.setenv("TFDP_JOB_SECRET", "of this job")
    monkeypatch.setenv("TFDP_START_TIMEOUT", "1")
    cluster = tfdp.Cluster.of(["127.0.0.1:1", "127.0.0.1:2"], 1)
    strategy = tfdp.AsynchronousStrategy(cluster=cluster)
    with pytest.raises(ServerLost, match="needs the server, which the chief"):
        strategy.connect()


def test_who_is_left_while_it_waits_for_a_batch_ends(monkeypatch):
    class Raise(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 2:
                # All that is this worker's is taken, and the other is not
                # there.
                time.sleep(1)
                raise RuntimeError("a callback's own")

    monkeypatch.setenv("TFDP_JOB_SECRET", "of this job")
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as other,
    ):
        ports = [each.getsockname()[1] for each in (one, other)]
    addresses = [f"127.0.0.1:{port}" for port in ports]
    strategy = tfdp.AsynchronousStrategy(
        cluster=tfdp.Cluster.of(addresses, 0), devices=CPUS[:1]
    )
    made = compiled(keras.optimizers.SGD(0.05), strategy)
    with pytest.raises(RuntimeError, match="a callback's own"):
        fit(made, [Raise()])


def test_a_distributed_dataset_is_refused():
    made = compiled(keras.optimizers.SGD(0.05))
    x, y = asynchronous_fit.samples()
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    data = made.distribute_strategy.experimental_distribute_dataset(dataset)
    with pytest.raises(RuntimeError, match="Received: a distributed dataset"):
        made.fit(data, verbose=0, callbacks=[tfdp.callbacks.DataParallel()])


def test_batches_that_a_lost_worker_leaves_too_late_are_told(monkeypatch):
    model = compiled(keras.optimizers.SGD(0.1))
    monkeypatch.setattr(strategy_of().feed, "drain", lambda: [4, 5])
    with pytest.warns(UserWarning, match="batches 4, 5 of epoch 0.*known len"):
        fit(model, epochs=1)


def test_what_reading_data_raises_is_raised_by_fit():
    empty = tf.data.Dataset.from_tensor_slices(asynchronous_fit.samples())
    empty = empty.filter(lambda x, y: False).batch(8)
    edges = [tfdp.callbacks.DataParallel()]
    made = compiled(keras.optimizers.SGD(0.05))
    with pytest.raises(ValueError, match="must have at least one batch"):
        made.fit(empty, verbose=0, callbacks=edges)
