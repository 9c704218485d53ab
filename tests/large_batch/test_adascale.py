"""AdaScale against its definition, and against plain Keras on one device."""

import keras
import numpy as np
import problem
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

import tfdp
from tfdp.large_batch.adascale import gain

BASE = 8
RATE = 0.02
MOMENTUM = 0.9
not_negative = st.floats(0, 1e6)


def gain_of(*numbers):
    return float(gain(*(tf.constant(n, tf.float32) for n in numbers)))


@given(not_negative, not_negative, st.floats(1, 1024))
def test_the_gain_lies_between_one_and_the_scale(variance, signal, scale):
    found = gain_of(variance, signal, scale)
    assert 1 - 1e-5 <= found <= scale * (1 + 1e-5)


@pytest.mark.parametrize("scale", [1, 4, 16.5])
def test_the_gain_is_one_without_noise_and_the_scale_without_signal(scale):
    assert gain_of(0, 3, scale) == 1
    assert gain_of(3, 0, scale) == pytest.approx(scale)
    assert gain_of(0, 0, scale) == 1


def cycles(num_samples, micro_batch, steps, replicas):
    """Rows of each contribution to each update of an epoch."""
    micro_batches = [
        range(start, min(start + micro_batch, num_samples))
        for start in range(0, num_samples, micro_batch)
    ]
    for first in range(0, len(micro_batches), steps):
        yield [
            rows[len(rows) * r // replicas : len(rows) * (r + 1) // replicas]
            for rows in micro_batches[first : first + steps]
            for r in range(replicas)
        ]


def oracle(num_samples, updates, rate, smoothing=None):
    """Algorithm 1 of the paper, on one device, with plain Keras's gradients."""
    model = problem.make_model()
    x, y = problem.arrays(num_samples)
    weights = model.trainable_variables
    velocity = [np.zeros(w.shape) for w in weights]
    steps, gains, seen = 0.0, [], 0
    mean = np.zeros(2)
    for contributions in updates:
        gradients, sizes = [], []
        for rows in contributions:
            with tf.GradientTape() as tape:
                error = model(x[list(rows)]) - y[list(rows)]
                loss = tf.reduce_mean(error**2) + sum(model.losses)
            gradients.append(
                [np.array(g, "float64") for g in tape.gradient(loss, weights)]
            )
            sizes.append(len(rows))
        total, count = sum(sizes), len(sizes)
        average = [
            sum(n * g for n, g in zip(sizes, of_one, strict=True)) / total
            for of_one in zip(*gradients, strict=True)
        ]
        scale = total / BASE
        if count > 1:
            noise = sum(
                n
                * sum(
                    ((a - b) ** 2).sum()
                    for a, b in zip(g, average, strict=True)
                )
                for n, g in zip(sizes, gradients, strict=True)
            ) / (count - 1)
            signal = sum((a**2).sum() for a in average) - noise / total
            seen += 1
            past = max(1 - scale / 1000, 0) if smoothing is None else smoothing
            share = max(1 / seen, 1 - past)
            mean = mean + share * (np.array([noise, signal]) - mean)
        variance, signal = max(mean[0], 0) / BASE, max(mean[1], 0)
        gains.append((variance + signal) / (variance / scale + signal))
        for w, v, g in zip(weights, velocity, average, strict=True):
            v[:] = MOMENTUM * v + g
            w.assign(w.numpy() - gains[-1] * rate(int(steps)) * v)
        steps += gains[-1]
    return model.get_weights(), gains, steps


def schedule():
    return keras.optimizers.schedules.ExponentialDecay(RATE, 5, 0.8)


def train(strategy, num_samples, steps, rate=RATE, epochs=3, **arguments):
    with strategy.scope():
        model = problem.make_model()
        optimizer = tfdp.DistributedOptimizer(
            tfdp.AdaScale(rate, MOMENTUM, base_batch=BASE, **arguments),
            accumulation_steps=steps,
        )
        model.compile(optimizer, "mse")
    history = model.fit(
        problem.dataset(num_samples, problem.GLOBAL_BATCH // steps),
        epochs=epochs,
        verbose=0,
        callbacks=[
            tfdp.callbacks.DataParallel(),
            tfdp.callbacks.AdaScaleMonitor(),
        ],
    ).history
    return model, history


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("strategy", "steps", "num_samples", "arguments"),
    [
        (1, 4, 300, {"smoothing": 0.5}),
        (1, 2, 256, {"rate": schedule()}),
        (2, 4, 256, {}),
        (2, 1, 256, {"rate": schedule()}),
        (4, 4, 300, {"smoothing": 0.5}),
        (4, 1, 256, {}),
    ],
    indirect=["strategy"],
)
def test_updates_are_those_of_the_paper(
    strategy, steps, num_samples, arguments
):
    replicas = strategy.num_replicas_in_sync
    # 300 samples end in one of 12 on each replica of four, and so on.
    model, history = train(strategy, num_samples, steps, **arguments)
    rate = arguments.get("rate", RATE)
    weights, gains, total = oracle(
        num_samples,
        3
        * list(
            cycles(num_samples, problem.GLOBAL_BATCH // steps, steps, replicas)
        ),
        lambda step: float(rate(step)) if callable(rate) else rate,
        arguments.get("smoothing"),
    )
    per_epoch = len(gains) // 3
    np.testing.assert_allclose(
        history["adascale_gain"], gains[per_epoch - 1 :: per_epoch], rtol=1e-4
    )
    assert history["scale_invariant_steps"][-1] == pytest.approx(total, 1e-4)
    assert problem.deviation(model.get_weights(), weights) <= 1e-5


class Shift(keras.layers.Layer):
    """Of whose output half the square is a loss with known gradients."""

    def build(self, shape):
        self.shift = self.add_weight(shape=shape[1:], initializer="zeros")

    def call(self, x):
        return x - self.shift


def half_square(y, prediction):
    return tf.reduce_sum(prediction**2, -1) / 2


def on_a_quadratic(strategy, mean, deviation, steps):
    """Fits rows of known mean and spread, without moving."""
    random = np.random.default_rng(0)
    x = (mean + random.normal(size=(12_800, 20)) * deviation).astype("float32")
    with strategy.scope():
        model = keras.Sequential([keras.Input((20,)), Shift()])
        optimizer = tfdp.DistributedOptimizer(
            tfdp.AdaScale(1e-9, base_batch=BASE, smoothing=0.999),
            accumulation_steps=steps,
        )
        model.compile(optimizer, half_square)
    monitor = tfdp.callbacks.NoiseScaleMonitor(smoothing=0.999, verbose=0)
    data = tf.data.Dataset.from_tensor_slices((x, x[:, :1])).batch(64 // steps)
    model.fit(
        problem.untuned(data),
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel(), monitor],
    )
    noise = x.var(axis=0).sum()
    signal = (x.mean(axis=0) ** 2).sum()
    return monitor.noise_scale, optimizer.inner_optimizer, noise, signal


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("strategy", "steps", "mean"),
    [(1, 2, 0.2), (2, 4, 1.0), (4, 2, 1.0), (4, 1, 0.2)],
    indirect=["strategy"],
)
def test_noise_scale_and_gain_on_a_quadratic(strategy, mean, steps):
    deviation = np.linspace(0.1, 2, 20)
    found, adascale, noise, signal = on_a_quadratic(
        strategy, mean, deviation, steps
    )
    assert found.noise == pytest.approx(noise, rel=0.05)
    assert found.samples == pytest.approx(noise / signal, rel=0.1)
    scale = 64 / BASE
    variance = noise / BASE
    defined = (variance + signal) / (variance / scale + signal)
    assert adascale.gain.numpy() == pytest.approx(defined, rel=0.05)


@pytest.mark.long
def test_gain_at_both_ends_in_training(two_replicas):
    _, adascale, _, _ = on_a_quadratic(two_replicas, 1.0, 0.0, 2)
    assert adascale.gain.numpy() == pytest.approx(1, abs=1e-4)
    _, adascale, _, _ = on_a_quadratic(two_replicas, 0.0, 1.0, 2)
    assert adascale.gain.numpy() == pytest.approx(64 / BASE, rel=0.05)


@pytest.mark.sampled
@pytest.mark.parametrize("steps", [1, 2])
def test_a_skipped_update_is_not_observed(two_replicas, steps):
    with two_replicas.scope():
        model = problem.make_model()
        optimizer = tfdp.DistributedOptimizer(
            tfdp.AdaScale(RATE, base_batch=BASE),
            accumulation_steps=steps,
            loss_scale="dynamic",
        )
        model.compile(optimizer, "mse")
    x, y = problem.arrays(64)
    x[40] = np.inf
    model.fit(
        tf.data.Dataset.from_tensor_slices((x, y)).batch(32 // steps),
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
    )
    adascale = optimizer.inner_optimizer
    assert optimizer.skipped_updates.numpy() == 1
    assert optimizer.iterations.numpy() == 1
    steps_made = adascale.scale_invariant_steps.numpy()
    assert steps_made == pytest.approx(adascale.gain.numpy())


@pytest.mark.long
def test_a_loss_scale_does_not_change_the_gain(two_replicas):
    def gains(**arguments):
        with two_replicas.scope():
            model = problem.make_model()
            optimizer = tfdp.DistributedOptimizer(
                tfdp.AdaScale(RATE, base_batch=BASE),
                accumulation_steps=2,
                **arguments,
            )
            model.compile(optimizer, "mse")
        monitors = [
            tfdp.callbacks.DataParallel(),
            tfdp.callbacks.AdaScaleMonitor(),
        ]
        data = problem.dataset(128, 32)
        fit = model.fit(data, epochs=3, verbose=0, callbacks=monitors)
        return fit.history["adascale_gain"]

    np.testing.assert_allclose(gains(loss_scale=2.0**15), gains(), rtol=1e-4)


@pytest.mark.long
def test_a_saved_model_goes_on_where_it_was(two_replicas, tmp_path):
    model, _ = train(two_replicas, 256, 2, rate=schedule(), epochs=1)
    model.save(tmp_path / "model.keras")
    with two_replicas.scope():
        loaded = keras.models.load_model(tmp_path / "model.keras")
    inner = loaded.optimizer.inner_optimizer
    assert isinstance(inner, tfdp.AdaScale)
    assert inner.get_config() == model.optimizer.inner_optimizer.get_config()
    for each in (model, loaded):
        each.fit(
            problem.dataset(256, 32),
            verbose=0,
            callbacks=[tfdp.callbacks.DataParallel()],
        )
    deviation = problem.deviation(loaded.get_weights(), model.get_weights())
    assert deviation <= 1e-6
    # To predict, one device will do.
    keras.models.load_model(tmp_path / "model.keras")


def test_a_constant_rate_can_be_set_and_a_schedule_is_the_base_batchs():
    optimizer = tfdp.AdaScale(0.5, base_batch=4)
    optimizer.learning_rate = 0.25
    assert optimizer.get_config()["learning_rate"] == 0.25
    decaying = tfdp.AdaScale(schedule(), base_batch=4)
    again = tfdp.AdaScale.from_config(decaying.get_config())
    assert float(again.learning_rate) == pytest.approx(RATE)
    copy = tfdp.AdaScale(schedule(), 0.9, base_batch=4, smoothing=0.5)
    assert tfdp.AdaScale.from_config(copy.get_config()).smoothing == 0.5


def test_a_schedule_that_is_set_counts_scale_invariant_steps(two_replicas):
    model, _ = train(two_replicas, 256, 2, epochs=1)
    inner = model.optimizer.inner_optimizer
    steps = int(inner.scale_invariant_steps.numpy())
    assert steps > 4
    inner.learning_rate = keras.optimizers.schedules.PolynomialDecay(
        1.0, 100, 0.0
    )
    with two_replicas.scope():
        rate = float(inner.learning_rate)
    assert rate == pytest.approx(1 - steps / 100)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("nesterov", True),
        ("weight_decay", 0.1),
        ("clipnorm", 1.0),
        ("clipvalue", 1.0),
        ("global_clipnorm", 1.0),
        ("use_ema", True),
    ],
)
def test_what_the_paper_does_not_cover_is_refused(name, value):
    with pytest.raises(ValueError, match=f"not defined with `{name}`"):
        tfdp.AdaScale(0.1, base_batch=4, **{name: value})
    tfdp.AdaScale(0.1, base_batch=4, **{name: None})


def test_bad_arguments_are_refused():
    with pytest.raises(TypeError, match="Received: beta=0.5"):
        tfdp.AdaScale(0.1, base_batch=4, beta=0.5)
    with pytest.raises(ValueError, match=r"range \[0, 1\)"):
        tfdp.AdaScale(0.1, base_batch=4, smoothing=1.0)
    with pytest.raises(TypeError, match="Write the function as a schedule"):
        tfdp.AdaScale(lambda: 0.1, base_batch=4)
    with pytest.raises(ValueError, match="`base_batch` must be at least 1"):
        tfdp.AdaScale(0.1, base_batch=0)


def test_it_needs_a_distributed_optimizer_of_a_tfdp_strategy():
    model = problem.make_model()
    model.compile(tfdp.AdaScale(0.1, base_batch=4), "mse")
    with pytest.raises(RuntimeError, match="Received: an update by AdaScale"):
        model.fit(problem.dataset(16, 8), verbose=0)
    with pytest.raises(RuntimeError, match="AdaScale or .*Received: _Default"):
        tfdp.DistributedOptimizer(tfdp.AdaScale(0.1, base_batch=4))


def test_it_cannot_be_one_of_several_optimizers(two_replicas):
    if not hasattr(keras.optimizers, "MultiOptimizer"):
        pytest.skip("this Keras has no MultiOptimizer")
    with two_replicas.scope():
        optimizer = keras.optimizers.MultiOptimizer(
            keras.optimizers.OptimizerMap(
                keras.optimizers.SGD(0.1),
                {"dense": tfdp.AdaScale(0.1, base_batch=4)},
            )
        )
        with pytest.raises(ValueError, match="must update all variables"):
            tfdp.DistributedOptimizer(optimizer)
