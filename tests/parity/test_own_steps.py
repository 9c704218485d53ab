"""Models with a `train_step` of their own, compared with one device."""

import contextlib
import functools

import keras
import numpy as np
import own_steps
import problem
import pytest
import tensorflow as tf
from grids import later, of_this_run
from places import SHARED

import tfdp

SGD = functools.partial(keras.optimizers.SGD, 0.02, momentum=0.9)


@functools.cache
def on_one_device(name):
    model = own_steps.made(name, SGD)
    history, evaluated = own_steps.train(name, model)
    return model.get_weights(), history, evaluated


def check(name, weights, history, evaluated):
    expected, expected_history, expected_evaluated = on_one_device(name)
    assert problem.deviation(weights, expected) <= 1e-6
    assert history.keys() == expected_history.keys()
    for key, values in expected_history.items():
        np.testing.assert_allclose(
            history[key], values, 2e-6, 1e-6, err_msg=key
        )
    if expected_evaluated is not None:
        np.testing.assert_allclose(evaluated, expected_evaluated, 2e-6)


@pytest.mark.sampled
@pytest.mark.parametrize(
    "name", later(own_steps.MODELS, ["DCGAN", "VAE", "Variables"])
)
def test_a_step_of_its_own_trains_and_logs_as_on_one_device(strategy, name):
    """41 samples leave replicas without any in the last batch."""
    with strategy.scope():
        model = own_steps.made(name, lambda: tfdp.DistributedOptimizer(SGD()))
    callbacks = [tfdp.callbacks.DataParallel()]
    history, evaluated = own_steps.train(name, model, callbacks=callbacks)
    check(name, model.get_weights(), history, evaluated)


def test_losses_of_a_batch_are_those_of_one_device(two_replicas):
    x, noise = own_steps.VAE.data
    expected = own_steps.made("VAE", SGD)
    with two_replicas.scope():
        model = own_steps.made("VAE", lambda: tfdp.DistributedOptimizer(SGD()))
    # Keras gives a step a third part of these, which is None.
    for each in (expected, model):
        each.losses_of = functools.partial(_of_two, each.losses_of)
    for _ in range(2):
        on_batch = [
            each.train_on_batch(x[:6], noise[:6], return_dict=True)
            for each in (expected, model)
        ]
    np.testing.assert_allclose(
        list(on_batch[1].values()), list(on_batch[0].values()), 1e-5
    )


def _of_two(losses_of, x, noise, sample_weight=None):
    return losses_of(x, noise)


def test_micro_batches_of_a_step_of_its_own_make_a_batch(two_replicas):
    with two_replicas.scope():
        model = own_steps.made(
            "VAE", lambda: tfdp.DistributedOptimizer(SGD(), 2)
        )
    model.fit(
        own_steps.dataset("VAE", own_steps.BATCH // 2),
        epochs=2,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
    )
    weights, *_ = on_one_device("VAE")
    assert problem.deviation(model.get_weights(), weights) <= 1e-6


class InPython(own_steps.VAE):
    """Its step cannot be traced: it looks at values."""

    def compile(self, make_optimizer):
        keras.Model.compile(self, make_optimizer(), run_eagerly=True)

    def train_step(self, data):
        assert np.isfinite(data[0].numpy()).all()
        return super().train_step(data)


class Undivided(own_steps.VAE):
    def losses_of(self, x, noise):
        error = keras.ops.square(x - self.decoder(self.encoder(x)[:, :2]))
        return keras.ops.mean(error), keras.ops.mean(noise)


class Lost(own_steps.VAE):
    """Divides by a number that Python has computed with."""

    def losses_of(self, x, noise):
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        error = keras.ops.square(x - self.decoder(self.encoder(x)[:, :2]))
        return keras.ops.mean(error) * replicas**-1, keras.ops.mean(noise)


def fitted(kind, strategy):
    keras.utils.set_random_seed(3)
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = kind()
        model.compile(
            (lambda: tfdp.DistributedOptimizer(SGD())) if strategy else SGD
        )
    model.fit(
        own_steps.dataset("VAE").take(2),
        epochs=2,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()] if strategy else None,
    )
    return model


def only(told):
    ours = [
        str(w.message) for w in told if "shuffle=True" not in str(w.message)
    ]
    (message,) = ours
    return message


def test_a_step_that_cannot_be_traced_trains_as_on_one_device(two_replicas):
    expected = fitted(InPython, None).get_weights()
    with pytest.warns(UserWarning, match="What a step logs must be told"):
        model = fitted(InPython, two_replicas)
    assert problem.deviation(model.get_weights(), expected) <= 1e-6


def test_a_loss_that_nobody_divides_is_told_once(two_replicas):
    with pytest.warns(UserWarning, match="must be divided") as told:
        fitted(Undivided, two_replicas)
    message = only(told)
    assert "A replica's loss must be divided by the number of" in message
    assert "a step of Undivided" in message


def test_a_logged_loss_that_cannot_be_known_is_told_once(two_replicas):
    expected = fitted(Lost, None).get_weights()
    with pytest.warns(UserWarning, match="must be told") as told:
        model = fitted(Lost, two_replicas)
    assert "`loss` of Lost" in only(told)
    assert problem.deviation(model.get_weights(), expected) <= 1e-6


def test_a_sum_of_losses_is_that_of_one_device(strategy):
    class Summing(own_steps.DCGAN):
        def compile(self, make_optimizer):
            super().compile(make_optimizer)
            self.judge_metric = keras.metrics.Sum(name="d_loss")

    def history(make_optimizer, scope, **fit):
        keras.utils.set_random_seed(3)
        with scope:
            model = Summing()
            model.compile(make_optimizer)
        data = own_steps.dataset("DCGAN")
        return model.fit(data, verbose=0, **fit).history["d_loss"]

    actual = history(
        lambda: tfdp.DistributedOptimizer(SGD()),
        strategy.scope(),
        callbacks=[tfdp.callbacks.DataParallel()],
    )
    expected = history(SGD, contextlib.nullcontext())
    np.testing.assert_allclose(actual, expected, 1e-5)


@pytest.fixture(scope="module")
def reports(request):
    names = of_this_run(request, "on_workers")
    return tfdp.testing.run_workers(
        SHARED / "own_steps_on_workers.py", 2, names, timeout=600
    )


@pytest.mark.multi_worker
@pytest.mark.parametrize("on_workers", later(own_steps.MODELS, ["DCGAN"]))
def test_a_step_of_its_own_trains_and_logs_alike_on_workers(
    reports, on_workers
):
    for report in reports:
        found = report["models"][on_workers]
        weights = [np.array(w) for w in found["weights"]]
        check(on_workers, weights, found["history"], found["evaluated"])
        assert found["types"] == ["float"]


@pytest.mark.multi_worker
def test_what_a_first_step_builds_begins_alike_on_workers(reports):
    first, second = (report["initial"] for report in reports)
    assert first
    assert first == second


@pytest.mark.multi_worker
def test_the_chief_may_audit_alone(reports):
    chief, other = (report["audited"] for report in reports)
    assert chief == [[], other[1]]


@pytest.mark.multi_worker
def test_an_audit_that_would_build_on_all_workers_is_refused(reports):
    for report in reports:
        assert report["refused"].startswith(
            "A model of several workers is built by all of them"
        )
