"""Half precision, loss scaling and accumulation together, through `fit`.

Most models here have one weight, and a loss whose gradient for a sample is its
label: what each replica sees in each micro-batch can then be chosen at will.
"""

import keras
import numpy as np
import problem
import pytest
import tensorflow as tf
from allpairspy import AllPairs

import tfdp

STEPS = 4


def mirrored(replicas):
    return tfdp.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])


def train(strategy, model_of, loss, data, epochs, optimizer, *args, **kwargs):
    with strategy.scope():
        model = model_of()
        model.compile(
            tfdp.DistributedOptimizer(optimizer, *args, **kwargs), loss
        )
    model.fit(
        data,
        epochs=epochs,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
    )
    return model


@pytest.fixture(scope="module")
def in_float32():
    model, _ = problem.train_on_one_device(problem.OPTIMIZERS["momentum"], 120)
    return model.get_weights()


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("policy", "steps", "loss_scale", "replicas"),
    list(
        AllPairs(
            [
                ["mixed_float16", "mixed_bfloat16"],
                [4, 16],
                ["dynamic", 512.0],
                [1, 2, 4],
            ]
        )
    ),
)
def test_training_follows_one_large_batch_in_float32(
    policy, steps, loss_scale, replicas, in_float32
):
    keras.config.set_dtype_policy(policy)
    model = train(
        mirrored(replicas),
        problem.make_model,
        "mse",
        problem.dataset(120, problem.GLOBAL_BATCH // steps),
        problem.EPOCHS,
        problem.OPTIMIZERS["momentum"](),
        steps,
        loss_scale=loss_scale,
        initial_scale=2.0**10,
    )
    assert int(model.optimizer.iterations.numpy()) == 2 * problem.EPOCHS
    assert int(model.optimizer.skipped_updates.numpy()) == 0
    assert problem.deviation(model.get_weights(), in_float32) <= 5e-3


def one_weight():
    layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    return keras.Sequential([keras.Input((1,)), layer])


def product(y_true, y_pred):
    return y_true * y_pred


def samples(gradients, batch):
    """One sample per gradient."""
    y = np.reshape(gradients, (-1, 1)).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((np.ones_like(y), y))
    return problem.untuned(data.batch(batch))


def momentum(rate=1.0):
    return keras.optimizers.SGD(rate, momentum=0.5)


def weight_after(gradients, replicas, steps, rate=1.0, **scaling):
    """The weight, and its optimizer, after one sample a time per replica."""
    model = train(
        mirrored(replicas),
        one_weight,
        product,
        samples(gradients, replicas),
        1,
        momentum(rate),
        steps,
        **scaling,
    )
    return float(model.get_weights()[0].item()), model.optimizer


def expected_weight(gradients, batch):
    """That of plain Keras in float32 on one device, in large batches."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    model = one_weight()
    model.compile(momentum(), product)
    model.fit(samples(gradients, batch), verbose=0)
    keras.config.set_dtype_policy(policy)
    return float(model.get_weights()[0].item())


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("policy", "replicas"),
    [
        ("mixed_float16", 4),
        ("mixed_bfloat16", 2),
        ("float16", 2),
        ("bfloat16", 1),
    ],
)
def test_sums_keep_what_half_precision_would_lose(policy, replicas):
    """14 of 16 gradients are below the last digit of the sum they join."""
    gradients = np.array([2048.0, *[1.0] * 14, -2048.0])
    half = tf.as_dtype(policy.removeprefix("mixed_")).as_numpy_dtype
    total = half(0)
    for gradient in gradients:
        total = half(total + half(gradient))
    assert total == 0

    keras.config.set_dtype_policy(policy)
    given = np.repeat(gradients, replicas)
    actual, _ = weight_after(given, replicas, 16, loss_scale=8.0)
    assert actual == expected_weight(given, 16 * replicas) == -14 / 16


@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_an_overflow_skips_one_update_and_nothing_else(replicas):
    keras.config.set_dtype_policy("mixed_float16")
    cycles = np.arange(3 * STEPS * replicas).reshape(3, STEPS, replicas) % 7.0
    # Keras divides by the replicas. Scaled, 2**16 exceeds float16.
    cycles[1:, 2, -1] = 32 * replicas
    actual, optimizer = weight_after(
        cycles,
        replicas,
        STEPS,
        loss_scale="dynamic",
        initial_scale=2.0**11,
    )
    expected = expected_weight(cycles[[0, 2]], STEPS * replicas)
    assert actual == pytest.approx(expected, rel=1e-6)
    assert float(optimizer.dynamic_scale.numpy()) == 2.0**10
    assert int(optimizer.skipped_updates.numpy()) == 1
    assert int(optimizer.iterations.numpy()) == 2
    assert not optimizer.is_mid_cycle


@pytest.mark.parametrize("replicas", [1, 2])
def test_the_scale_grows_by_updates_and_not_by_micro_batches(replicas):
    keras.config.set_dtype_policy("mixed_float16")
    _, optimizer = weight_after(
        np.ones(5 * STEPS * replicas),
        replicas,
        STEPS,
        loss_scale="dynamic",
        initial_scale=2.0,
        dynamic_growth_steps=2,
    )
    assert int(optimizer.iterations.numpy()) == 5
    assert float(optimizer.dynamic_scale.numpy()) == 2.0 * 2**2


@pytest.mark.parametrize("replicas", [1, 4])
def test_gradients_that_float16_lacks_survive_by_their_scale(replicas):
    keras.config.set_dtype_policy("mixed_float16")
    tiny = 2.0**-26
    assert np.float16(tiny) == 0
    moved = {
        loss_scale: weight_after(
            np.full(16 * replicas, tiny),
            replicas,
            16,
            rate=2.0**26,
            loss_scale=loss_scale,
        )[0]
        for loss_scale in (None, "dynamic")
    }
    assert moved == {None: 0.0, "dynamic": -1.0}
