"""Keras's LAMB: its formula beside the paper's, and equality to one device.

Algorithm 2 of You et al., 2020 (https://arxiv.org/abs/1904.00962) adds the
weight decay to Adam's step, and takes the ratio of norms for the sum. Keras
decays before, at the bare learning rate, and the ratio is that of the decayed
weight to Adam's step alone. So the same `weight_decay` is a weaker one where
weights are large beside Adam's step, and changes no direction of a step.
"""

import keras
import numpy as np
import problem
import pytest
import tensorflow as tf

import tfdp

RANDOM = np.random.default_rng(0)
WEIGHT = 4 * RANDOM.normal(size=(3, 4)).astype("float32")
GRADIENTS = RANDOM.normal(size=(5, 3, 4)).astype("float32")
RATES = [0.2, 0.2, 0.05, 0.05, 0.05]


def ratio(weight, step):
    size, slope = np.linalg.norm(weight), np.linalg.norm(step)
    return size / slope if size > 0 and slope > 0 else 1.0


def lamb(weight, decay=0.0, *, is_decoupled, epsilon=1e-7):
    """Algorithm 2, with the identity for its function of the norm."""
    w, m, v = np.float64(weight), 0.0, 0.0
    for t, (g, rate) in enumerate(
        zip(np.float64(GRADIENTS), RATES, strict=True), start=1
    ):
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        step = m / (1 - 0.9**t)
        step /= np.sqrt(v / (1 - 0.999**t)) + epsilon
        if is_decoupled:
            w = w * (1 - rate * decay)
        else:
            step = step + decay * w
        w = w - rate * ratio(w, step) * step
    return w


def keras_lamb(weight, decay=None):
    variable = keras.Variable(weight)
    rate = keras.optimizers.schedules.PiecewiseConstantDecay([1], RATES[1:3])
    optimizer = keras.optimizers.Lamb(rate, weight_decay=decay)
    optimizer.build([variable])
    update = tf.function(lambda g: optimizer.apply([g], [variable]))
    for gradient in GRADIENTS:
        update(tf.constant(gradient))
    return variable.numpy()


@pytest.mark.parametrize(
    "weight", [WEIGHT, 0 * WEIGHT], ids=["weights", "zeros"]
)
def test_without_decay_it_is_the_algorithm_of_the_paper(weight):
    expected = lamb(weight, is_decoupled=False)
    np.testing.assert_allclose(keras_lamb(weight), expected, rtol=1e-4)


def test_decay_is_decoupled_from_the_ratio_of_norms():
    actual = keras_lamb(WEIGHT, decay=0.5)
    expected = lamb(WEIGHT, 0.5, is_decoupled=True)
    np.testing.assert_allclose(actual, expected, rtol=1e-4)
    of_the_paper = lamb(WEIGHT, 0.5, is_decoupled=False)
    assert problem.deviation([actual], [of_the_paper]) > 0.1


def make():
    rate = keras.optimizers.schedules.ExponentialDecay(0.02, 2, 0.8)
    optimizer = keras.optimizers.Lamb(
        rate, weight_decay=0.1, global_clipnorm=1.0
    )
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


@pytest.fixture(scope="module")
def expected():
    model, history = problem.train_on_one_device(make, 120)
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    return model.get_weights()


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("strategy", "steps"), [(1, 4), (2, 1), (4, 4)], indirect=["strategy"]
)
def test_training_equals_one_device_with_one_large_batch(
    strategy, steps, expected
):
    with strategy.scope():
        model = problem.make_model()
        model.compile(tfdp.DistributedOptimizer(make(), steps), "mse")
    model.fit(
        problem.dataset(120, problem.GLOBAL_BATCH // steps),
        epochs=problem.EPOCHS,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
    )
    assert problem.deviation(model.get_weights(), expected) <= 1e-5
