"""Workers that update by themselves, and send what that has moved."""

import asynchronous_diloco
import asynchronous_fit
import grids
import keras
import numpy as np
import pytest
from asynchronous_diloco import compiled, fit, replayed

import tfdp

ROUNDS = [[0, 1, 2, 3], [4, 5]]


@pytest.fixture(scope="module")
def alone():
    """A job of one worker, whose server is a process."""
    return tfdp.AsynchronousStrategy(0, devices=["CPU:0"])


def equal(weights, expected, to=0.0):
    for ours, theirs in zip(weights, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=to)


@pytest.mark.parametrize(
    "outer", grids.later(["SGD", "Nesterov", "delayed"], ["delayed"])
)
def test_a_worker_alone_makes_the_rounds_of_its_epochs(alone, outer):
    model = compiled(alone, "Adam", outer, 4)
    fit(model)
    log, rounds = alone.exchange.log(), model.noting.rounds
    assert rounds == 2 * ROUNDS
    assert [update.applied for update in log] == [0, 1, 2, 3]
    equal(model.get_weights(), replayed(log, [rounds], "Adam", outer))
    # Each optimizer counts its own updates.
    way = model.optimizer.synchronized_by
    assert int(way.outer_optimizer.iterations.numpy()) == 4
    assert int(model.optimizer.iterations.numpy()) == 12


@pytest.mark.long
def test_rounds_of_one_update_are_plain_asynchronous_sgd(alone):
    model = compiled(alone, "SGD", "identity", 1)
    fit(model)
    with alone.scope():
        plain = asynchronous_fit.make_model()
        inner = asynchronous_diloco.INNER["SGD"]()
        plain.compile(tfdp.DistributedOptimizer(inner), "mse")
    fit(plain)
    equal(model.get_weights(), plain.get_weights(), to=1e-6)


def test_a_graph_of_several_steps_makes_the_same_rounds(alone):
    model = compiled(alone, "Adam", "Nesterov", 4)
    model.steps_per_execution = 3
    fit(model)
    assert model.noting.rounds == 2 * ROUNDS
    log = alone.exchange.log()
    equal(model.get_weights(), replayed(log, [2 * ROUNDS], "Adam", "Nesterov"))


def test_slots_may_begin_anew_with_each_round(alone):
    model = compiled(alone, "momentum", "SGD", 4, buffers="reset")
    fit(model)
    log = alone.exchange.log()
    expected = replayed(log, [2 * ROUNDS], "momentum", "SGD", resets=True)
    equal(model.get_weights(), expected)
    kept = replayed(log, [2 * ROUNDS], "momentum", "SGD")
    assert not np.allclose(expected[0], kept[0])


@pytest.mark.long
def test_replicas_of_a_worker_and_micro_batches_make_one_update():
    strategy = tfdp.AsynchronousStrategy(0, devices=["CPU:0", "CPU:1"])
    model = compiled(strategy, "AdamW", "Nesterov", 2, accumulation_steps=2)
    fit(model)
    log = strategy.exchange.log()
    expected = replayed(
        log, [2 * [[0, 1], [2]]], "AdamW", "Nesterov", batch_size=16
    )
    equal(model.get_weights(), expected, to=1e-6)
    assert int(model.optimizer.iterations.numpy()) == 6


def test_a_round_goes_on_without_an_update_that_overflows(alone):
    x, y = asynchronous_fit.samples()
    # Of batches 1 and 5, but not what they are known by.
    x[[9, 41]] = np.inf
    model = compiled(alone, "Adam", "Nesterov", 4, loss_scale=8.0)
    fit(model, epochs=1, data=(x, y))
    log = alone.exchange.log()
    assert int(model.optimizer.skipped_updates.numpy()) == 2
    expected = replayed(log, [[[0, 2, 3, 4]]], "Adam", "Nesterov")
    equal(model.get_weights(), expected, to=1e-6)


def test_it_goes_on_with_the_slots_that_were_saved(alone):
    first = compiled(alone, "Adam", "Nesterov", 4)
    fit(first, epochs=1)
    store = {}
    first.optimizer.save_own_variables(store)
    second = compiled(alone, "Adam", "Nesterov", 4)
    with alone.scope():
        second.optimizer.build(second.trainable_variables)
    second.optimizer.load_own_variables(store)
    second.set_weights(first.get_weights())
    fit(second, epochs=1)
    log = [(0, step, step, step) for step in range(4)]
    equal(second.get_weights(), replayed(log, [2 * ROUNDS], "Adam", "Nesterov"))


class Saves(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        self.model.optimizer.save_own_variables({})


def test_a_save_in_a_round_is_refused(alone, tmp_path):
    model = compiled(alone, "Adam", "SGD", 4)
    with pytest.raises(RuntimeError, match="AsynchronousDiLoCo between"):
        fit(model, callbacks=[Saves()])
    every_step = keras.callbacks.ModelCheckpoint(
        tmp_path / "model.keras", save_freq=1
    )
    with pytest.raises(RuntimeError, match="save_freq=1"):
        fit(model, callbacks=[every_step])


@pytest.mark.parametrize(
    ("way", "inner", "says"),
    [
        (lambda: tfdp.LocalSGD(2), {}, "synchronization=LocalSGD"),
        (tfdp.Delayed, {}, "synchronization=Delayed"),
        (lambda: diloco(start=3), {}, "Received: start=3"),
        (lambda: diloco(buffers="average"), {}, "buffers='average'"),
        (lambda: diloco(), {"use_ema": True}, "use_ema=True"),
    ],
    ids=["LocalSGD", "Delayed", "start", "buffers", "use_ema"],
)
def test_what_workers_that_do_not_wait_cannot_do_is_refused(
    alone, way, inner, says
):
    with alone.scope(), pytest.raises(ValueError, match=says):
        tfdp.DistributedOptimizer(
            keras.optimizers.SGD(0.1, **inner), synchronization=way()
        )


def diloco(**kwargs):
    return tfdp.DiLoCo(keras.optimizers.SGD(0.7), 2, **kwargs)


def described(strategy, inner, outer):
    model = compiled(strategy, inner, outer, 2)
    with strategy.scope():
        model.optimizer.build(model.trainable_variables)
    return model.optimizer.synchronized_by.describe([], [])


def test_workers_have_the_same_inner_and_outer_optimizer(alone):
    ours = described(alone, "Adam", "SGD")
    ours.check_same(described(alone, "Adam", "SGD"), worker=1)
    with pytest.raises(ValueError, match="the inner optimizer is .*Adam.* on"):
        ours.check_same(described(alone, "momentum", "SGD"), worker=1)
    with pytest.raises(ValueError, match="the optimizer is .*SGD.*Delayed"):
        ours.check_same(described(alone, "Adam", "delayed"), worker=1)


@pytest.mark.multi_worker
@pytest.mark.sampled
@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("bound", [1, 0, 2])
@pytest.mark.parametrize("outer", ["Nesterov", "identity", "SGD", "delayed"])
def test_the_log_of_workers_replayed_on_one_device_gives_the_same_bits(
    outer, bound, workers
):
    found = tfdp.testing.run_workers(
        asynchronous_diloco.train,
        workers,
        [bound, "Adam", outer, 2, 0.05],
        asynchronous=True,
    )
    fallen = [str(each) for each in found if not isinstance(each, dict)]
    assert not fallen, fallen
    log, rounds = found[0]["log"], [each["rounds"] for each in found]
    assert len(log) == sum(map(len, rounds))
    assert max(applied - read for _, _, read, applied in log) <= bound
    expected = replayed(log, rounds, "Adam", outer)
    for each, own in zip(found, rounds, strict=True):
        equal(each["weights"], expected)
        assert each["iterations"] == sum(map(len, own))
