"""Momentum for gradients that come one by one, against the paper's lines."""

import keras
import numpy as np
import pytest

import tfdp

RATE, BETA = 0.7, 0.9


def gradients(count):
    return np.random.default_rng(0).normal(size=(count, 3)).astype("float32")


def moved(optimizer, gradients):
    variable = keras.Variable(np.ones(3, "float32"))
    weights = []
    for gradient in gradients:
        optimizer.apply([keras.ops.array(gradient)], [variable])
        weights.append(variable.numpy())
    return np.array(weights)


def algorithm_3(gradients, n, c):
    theta, m, buffer = np.ones(3), np.zeros(3), np.zeros(3)
    weights = []
    for t, g in enumerate(gradients.astype("float64")):
        buffer = buffer + g
        if (t + 1) % n == 0:
            m = BETA * m + buffer / n
            theta = theta - RATE * ((1 - c * n + c) * BETA * m + g / n)
            buffer = np.zeros(3)
        else:
            theta = theta - RATE * (c * BETA * m + g / n)
        weights.append(theta)
    return np.array(weights)


@pytest.mark.parametrize(("n", "c"), [(1, 0.0), (3, 0.0), (4, 0.1), (2, 0.5)])
def test_it_is_the_algorithm_of_the_paper(n, c):
    optimizer = tfdp.DelayedNesterov(
        RATE, momentum=BETA, buffer_size=n, activation=c
    )
    np.testing.assert_allclose(
        moved(optimizer, gradients(12)),
        algorithm_3(gradients(12), n, c),
        rtol=0,
        atol=2e-6,
    )


def test_of_one_gradient_at_a_time_it_is_nesterovs_momentum():
    np.testing.assert_allclose(
        moved(tfdp.DelayedNesterov(RATE, BETA, buffer_size=1), gradients(9)),
        moved(keras.optimizers.SGD(RATE, BETA, nesterov=True), gradients(9)),
        rtol=0,
        atol=2e-6,
    )


def test_n_gradients_do_what_nesterov_does_with_their_mean():
    mean_of_three = gradients(9).reshape(3, 3, 3).mean(axis=1)
    delayed = tfdp.DelayedNesterov(RATE, BETA, buffer_size=3)
    np.testing.assert_allclose(
        moved(delayed, gradients(9))[2::3],
        moved(keras.optimizers.SGD(RATE, BETA, nesterov=True), mean_of_three),
        rtol=0,
        atol=2e-6,
    )


def test_it_goes_on_where_it_was_saved():
    kwargs = {"buffer_size": 4, "activation": 0.2, "clipnorm": 2.0}
    first = tfdp.DelayedNesterov(RATE, BETA, **kwargs)
    whole = tfdp.DelayedNesterov(RATE, BETA, **kwargs)
    expected = moved(whole, gradients(7))
    weights = moved(first, gradients(7)[:5])
    variable = keras.Variable(weights[-1])
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(first)
    )
    again.build([variable])
    store = {}
    first.save_own_variables(store)
    again.load_own_variables(store)
    for gradient in gradients(7)[5:]:
        again.apply([keras.ops.array(gradient)], [variable])
    np.testing.assert_array_equal(variable.numpy(), expected[-1])


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"buffer_size": 0}, ValueError),
        ({"buffer_size": 2.5}, TypeError),
        ({"buffer_size": 2, "activation": 0.6}, ValueError),
        ({"buffer_size": 2, "activation": None}, TypeError),
        ({"buffer_size": 2, "momentum": 1.5}, ValueError),
        ({"buffer_size": 2, "momentum": "0.9"}, TypeError),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(arguments, error):
    with pytest.raises(error, match=list(arguments)[-1]):
        tfdp.DelayedNesterov(RATE, **arguments)
