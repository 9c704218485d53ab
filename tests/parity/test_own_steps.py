"""Models with a `train_step` of their own, compared with one device."""

import functools

import keras
import numpy as np
import own_steps
import problem
import pytest
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


@pytest.mark.parametrize("name", own_steps.MODELS)
def test_a_step_of_its_own_trains_and_logs_as_on_one_device(strategy, name):
    """41 samples leave replicas without any in the last batch."""
    with strategy.scope():
        model = own_steps.made(name, lambda: tfdp.DistributedOptimizer(SGD()))
    callbacks = [tfdp.callbacks.DataParallel()]
    history, evaluated = own_steps.train(name, model, callbacks=callbacks)
    check(name, model.get_weights(), history, evaluated)


@pytest.mark.multi_worker
def test_a_step_of_its_own_trains_and_logs_alike_on_workers():
    reports = tfdp.testing.run_workers(
        SHARED / "own_steps_on_workers.py", 2, timeout=600
    )
    for report in reports:
        for name, found in report.items():
            weights = [np.array(w) for w in found["weights"]]
            check(name, weights, found["history"], found["evaluated"])
