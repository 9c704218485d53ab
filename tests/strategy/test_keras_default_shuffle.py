"""Keras 3.15 warns of its own default whenever `fit` is given a dataset."""

import warnings

import keras
import problem
import pytest


def told(fit):
    """What `fit` warns of, where no filter is set by anybody else."""
    with warnings.catch_warnings(record=True) as found:
        warnings.resetwarnings()
        warnings.simplefilter("always")
        fit()
    return [str(each.message) for each in found]


def fit_under(strategy, make_data):
    with strategy.scope():
        model = problem.make_model()
        model.compile("sgd", "mse")
    model.fit(make_data(), steps_per_epoch=2, verbose=0)


def dataset():
    return problem.dataset(32, 16)


def generator():
    yield from dataset().as_numpy_iterator()


@pytest.mark.parametrize("make_data", [dataset, generator])
def test_a_fit_that_was_not_told_to_shuffle_does_not_say_so(
    two_replicas, make_data
):
    assert told(lambda: fit_under(two_replicas, make_data)) == []


def test_a_filter_that_is_in_force_is_not_set_again(two_replicas):
    def enter():
        with two_replicas.scope():
            return list(warnings.filters)

    with warnings.catch_warnings():
        warnings.resetwarnings()
        first = enter()
        assert enter() == first
        assert len(first) == 1
        warnings.simplefilter("error")
        assert [action for action, *_ in enter()] == ["ignore", "error"]


def test_other_warnings_of_keras_are_told(two_replicas):
    def warn():
        with two_replicas.scope():
            keras.layers.Dense(1, input_shape=(2,))

    (warning,) = told(warn)
    assert "input_shape" in warning
