"""A fit that an error has ended is over; the next one is another."""

import abandoned_fit
import asynchronous_fit
import keras
import numpy as np
import pytest
from abandoned_fit import Fails, fit, plainly
from grids import later

import tfdp

HOOKS = [
    "on_epoch_end",
    "on_train_batch_end",
    "on_train_batch_begin",
    "on_epoch_begin",
]
ERRORS = [ValueError("its own"), KeyboardInterrupt()]


@pytest.fixture(scope="module")
def alone():
    """A job of one worker, whose server is a process."""
    return tfdp.AsynchronousStrategy(0, devices=["CPU:0"])


def compiled(strategy, optimizer="SGD"):
    with strategy.scope():
        model = asynchronous_fit.make_model()
        optimizer = asynchronous_fit.OPTIMIZERS[optimizer]()
        model.compile(tfdp.DistributedOptimizer(optimizer), "mse")
    return model


def equal(model, expected):
    for ours, theirs in zip(
        model.get_weights(), expected.get_weights(), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.sampled
@pytest.mark.parametrize(
    "hook", later(HOOKS, ["on_epoch_end", "on_train_batch_begin"])
)
@pytest.mark.parametrize("error", ERRORS, ids=["error", "interrupt"])
def test_the_next_fit_goes_on_as_in_plain_keras(alone, hook, error):
    model = compiled(alone)
    with pytest.raises(type(error)):
        fit(model, [Fails(hook, error)], epochs=4)
    fit(model, [])
    optimizer = asynchronous_fit.OPTIMIZERS["SGD"]()
    expected = plainly(optimizer, Fails(hook, error))
    equal(model, expected)
    assert int(model.optimizer.iterations.numpy()) == int(
        expected.optimizer.iterations.numpy()
    )


def test_what_was_left_is_saved_as_it_was(alone, tmp_path):
    model = compiled(alone, "Adam")
    failing = Fails("on_train_batch_end", ValueError("its own"))
    with pytest.raises(ValueError, match="its own"):
        fit(model, [failing])
    model.save(tmp_path / "left.keras")
    loaded = keras.saving.load_model(tmp_path / "left.keras")
    assert int(loaded.optimizer.iterations.numpy()) == 3
    inner = loaded.optimizer
    loaded.compile(getattr(inner, "inner_optimizer", inner), "mse")
    fit(loaded, [], is_plain=True)
    optimizer = asynchronous_fit.OPTIMIZERS["Adam"]()
    equal(
        loaded,
        plainly(optimizer, Fails("on_train_batch_end", ValueError("its own"))),
    )


def test_another_model_is_trained_after_one_that_was_left(alone):
    for _ in range(2):
        with pytest.raises(ValueError, match="its own"):
            fit(
                compiled(alone),
                [Fails("on_train_batch_begin", ValueError("its own"))],
            )
    model = compiled(alone, "Adam")
    fit(model, [])
    assert len(alone.exchange.log()) == 12
    expected = asynchronous_fit.make_model()
    expected.compile(asynchronous_fit.OPTIMIZERS["Adam"](), "mse")
    fit(expected, [], is_plain=True)
    equal(model, expected)


def test_data_that_fail_are_left_as_well(alone):
    model = compiled(alone)
    x, y = asynchronous_fit.samples()

    def batches():
        for begin in range(0, 24, 8):
            yield x[begin : begin + 8], y[begin : begin + 8]
        raise ValueError("data of its own")

    with pytest.raises(Exception, match="data of its own"):
        model.fit(
            batches(),
            epochs=1,
            verbose=0,
            callbacks=[tfdp.callbacks.DataParallel()],
        )
    assert alone.under_way is None
    made = int(model.optimizer.iterations.numpy())
    fit(model, [])
    assert int(model.optimizer.iterations.numpy()) == made + 12


@pytest.mark.long
@pytest.mark.sampled
@pytest.mark.multi_worker
@pytest.mark.parametrize("failing", later([[1], [0, 1], [0]], [[1]]))
def test_workers_meet_again_in_the_next_fit(failing):
    found = tfdp.testing.run_workers(
        abandoned_fit.train, 2, [failing], asynchronous=True
    )
    assert [bool(each["caught"]) for each in found] == [
        worker in failing for worker in range(2)
    ]
    chief, other = found
    before = chief["before"]
    assert (before == 12) == (0 not in failing)
    assert chief["iterations"] == other["iterations"] == before + 12
    assert chief["log"] == before + 12
    assert chief["weights"] == other["weights"]
    assert chief["losses"] == other["losses"]
