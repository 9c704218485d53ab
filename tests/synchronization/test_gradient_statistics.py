"""Noise and signal, told apart from norms, against the gradients themselves."""

import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import problem
import pytest
import tensorflow as tf

import tfdp
from tfdp.step.samples import LossWeight, counted
from tfdp.synchronization import gradient_statistics
from tfdp.synchronization.gradient_statistics import (
    Moments,
    MovingAverage,
    squared_norm,
)

sizes = st.lists(st.integers(0, 40), min_size=2, max_size=8).filter(
    lambda given: sum(size > 0 for size in given) > 1
)


def scattered(gradients, weights, samples):
    """Sum of what each contribution adds."""
    parts = []
    for gradient, weight, count in zip(
        gradients, weights, samples, strict=True
    ):
        with counted((tf.zeros([count, 1]),)):
            parts.append(
                gradient_statistics.scatter(
                    [tf.constant(gradient * weight, tf.float32)],
                    LossWeight(tf.constant(weight, tf.float32)),
                )
            )
    return tf.add_n(parts)


def told(gradients, weights, samples):
    weights = np.asarray(weights, "float64")
    mean = (weights[:, None] * gradients).sum(0) / weights.sum()
    return gradient_statistics.moments(
        scattered(gradients, weights, samples),
        tf.constant(weights.sum(), tf.float32),
        [tf.constant(mean, tf.float32)],
    )


@hypothesis.given(sizes, st.integers(0, 2**31))
@hypothesis.settings(max_examples=40, deadline=None)
def test_moments_are_those_of_the_gradients_themselves(samples, seed):
    random = np.random.default_rng(seed)
    gradients = 1 + random.normal(size=(len(samples), 5))
    found = told(gradients, samples, samples)
    present = np.array(samples) > 0
    weights = np.array(samples)[present]
    there = gradients[present]
    mean = (weights[:, None] * there).sum(0) / weights.sum()
    noise = (weights * ((there - mean) ** 2).sum(1)).sum() / (len(there) - 1)
    signal = (mean**2).sum() - noise / weights.sum()
    assert float(found.noise) == pytest.approx(noise, rel=1e-3, abs=1e-3)
    assert float(found.signal) == pytest.approx(signal, rel=1e-3, abs=1e-3)
    assert float(found.samples) == sum(samples)
    assert bool(found.is_known)


def test_moments_have_no_bias_whatever_the_sizes():
    random = np.random.default_rng(0)
    sizes = [1, 3, 8, 20]
    deviation = np.array([0.5, 1.0, 2.0])
    true = np.array([1.0, -0.5, 0.2])
    found = [
        told(
            np.array(
                [
                    true + (random.normal(size=(n, 3)) * deviation).mean(0)
                    for n in sizes
                ]
            ),
            sizes,
            sizes,
        )
        for _ in range(400)
    ]
    noise, signal = np.mean([[f.noise, f.signal] for f in found], axis=0)
    assert noise == pytest.approx((deviation**2).sum(), rel=0.1)
    assert signal == pytest.approx((true**2).sum(), rel=0.1)


def test_noise_is_that_of_a_sample_whatever_a_loss_divides_by():
    random = np.random.default_rng(1)
    gradients = random.normal(size=(4, 3))
    by_samples = told(gradients, [6, 6, 6, 6], [6, 6, 6, 6])
    by_tokens = told(gradients, [48, 48, 48, 48], [6, 6, 6, 6])
    np.testing.assert_allclose(by_tokens[:3], by_samples[:3], rtol=1e-5)


def test_one_contribution_tells_nothing():
    found = told(np.ones((3, 4)), [5, 0, 0], [5, 0, 0])
    assert not bool(found.is_known)
    assert np.isfinite(found[:3]).all()


def test_rows_of_slices_are_added_before_they_are_squared():
    slices = tf.IndexedSlices(
        tf.constant([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]),
        tf.constant([2, 0, 2]),
        tf.constant([3, 2]),
    )
    dense = tf.convert_to_tensor(slices)
    both = squared_norm([slices, tf.constant([2.0])])
    assert float(both) == float(tf.reduce_sum(dense**2)) + 4


def test_norms_that_overflow_tell_nothing():
    found = told(np.array([[1e21], [2e21]]), [5, 5], [5, 5])
    assert not bool(found.is_known)


def test_half_precision_is_squared_in_float32():
    value = tf.constant([1e-4, 300.0], tf.float16)
    assert float(squared_norm([value])) == pytest.approx(9e4, rel=1e-3)


def moments(noise, signal, samples=8.0, is_known=True):
    numbers = (tf.constant(float(n)) for n in (noise, signal, samples))
    return Moments(*numbers, tf.constant(is_known))


def test_the_first_updates_are_averaged_alike():
    variable = keras.Variable(np.zeros(4), dtype="float32")
    average = MovingAverage(variable)
    values = np.random.default_rng(2).uniform(size=(30, 2))
    for noise, signal in values:
        average.add(moments(noise, signal), 0.9)
    expected = values[:10].mean(0)
    for new in values[10:]:
        expected = 0.9 * expected + 0.1 * new
    noise, signal, samples = average.read()
    np.testing.assert_allclose([noise, signal], expected, rtol=1e-5)
    assert float(samples) == 8


def test_unknown_moments_and_negative_averages_are_left_out():
    average = MovingAverage(keras.Variable(np.zeros(4), dtype="float32"))
    average.add(moments(3, -1), 0.5)
    average.add(moments(np.nan, np.nan, is_known=False), 0.5)
    np.testing.assert_array_equal(average.read(), [3, 0, 8])


@pytest.mark.parametrize("kind", ["sum", "of the whole batch", "synchronized"])
def test_gradients_that_are_no_means_of_parts_are_refused(two_replicas, kind):
    loss = {
        "sum": tfdp.DistributedLoss(
            keras.losses.MeanSquaredError(reduction="sum")
        ),
        "of the whole batch": tfdp.DistributedLoss(
            lambda y, p: keras.ops.mean((y - p) ** 2), over="batch"
        ),
    }.get(kind, "mse")
    with two_replicas.scope():
        layers = [keras.Input((8,)), keras.layers.Dense(1)]
        if kind == "synchronized":
            norm = keras.layers.BatchNormalization(synchronized=True)
            layers.insert(1, norm)
        model = keras.Sequential(layers)
        model.compile(
            tfdp.DistributedOptimizer(tfdp.AdaScale(0.1, base_batch=4)), loss
        )
    with pytest.raises(ValueError, match=f"Received: a .*{kind}"):
        model.fit(
            problem.dataset(16, 8),
            verbose=0,
            callbacks=[tfdp.callbacks.DataParallel()],
        )


def test_a_single_gradient_per_update_is_refused():
    with (
        tfdp.MirroredStrategy(["CPU:0"]).scope(),
        pytest.raises(RuntimeError, match="at least two per update"),
    ):
        tfdp.DistributedOptimizer(tfdp.AdaScale(0.1, base_batch=4))
