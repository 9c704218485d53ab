"""Replicas that update alone, against as many models of plain Keras."""

import itertools

import keras
import local_updates
import numpy as np
import pytest
import tensorflow as tf
from grids import later

import tfdp
from tfdp.step.meter import Settings, StepMeter

KINDS = {
    "sgd": lambda: keras.optimizers.SGD(0.05),
    "nesterov": lambda: keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "clipped AdamW": lambda: keras.optimizers.AdamW(
        0.01, weight_decay=0.1, global_clipnorm=0.2
    ),
    "Nadam": lambda: keras.optimizers.Nadam(0.01),
    "Lion": lambda: keras.optimizers.Lion(0.001),
    "Muon": lambda: keras.optimizers.Muon(0.01),
    "averaged": lambda: keras.optimizers.Adam(
        0.01, use_ema=True, ema_momentum=0.9
    ),
    "schedule": lambda: keras.optimizers.RMSprop(
        keras.optimizers.schedules.CosineDecay(0.01, 10)
    ),
}


def outer():
    return keras.optimizers.SGD(0.7, momentum=0.9, nesterov=True)


def trained(strategy, make_optimizer, way, num_samples=256, steps=1, **fit):
    with strategy.scope():
        model = local_updates.make_model(fit.pop("constraint", "non_neg"))
        optimizer = tfdp.DistributedOptimizer(
            make_optimizer(), steps, synchronization=way
        )
        model.compile(optimizer, "mse")
    data = tf.data.Dataset.from_tensor_slices(local_updates.arrays(num_samples))
    model.fit(
        data.batch(local_updates.GLOBAL_BATCH // steps),
        epochs=local_updates.EPOCHS,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel(), *fit.pop("callbacks", [])],
        **fit,
    )
    return model


def of_replicas(strategy, variables):
    by_variable = [
        [part.numpy() for part in strategy.experimental_local_results(v.value)]
        for v in variables
    ]
    return list(zip(*by_variable, strict=True))


def assert_equals(strategy, model, expected, to=1e-6):
    actual = of_replicas(strategy, model.trainable_variables)
    for one, other in zip(actual, expected, strict=True):
        for a, e in zip(one, other, strict=True):
            np.testing.assert_allclose(a, e, rtol=0, atol=to)


@pytest.fixture(params=[2, 4], ids=lambda n: f"{n}-replica")
def strategy(request):
    return tfdp.MirroredStrategy([f"CPU:{i}" for i in range(request.param)])


@pytest.mark.parametrize("kind", later(KINDS, ["nesterov", "clipped AdamW"]))
@pytest.mark.parametrize(
    ("sync_every", "num_samples", "steps"),
    [
        (3, 241, 2),
        (5, 241, 1),
        pytest.param(3, 256, 1, marks=pytest.mark.long),
    ],
)
def test_rounds_equal_models_that_train_apart(
    strategy, kind, sync_every, num_samples, steps
):
    make = KINDS[kind]
    way = tfdp.LocalSGD(sync_every)
    model = trained(strategy, make, way, num_samples, steps)
    expected = local_updates.simulate(
        make,
        strategy.num_replicas_in_sync,
        sync_every,
        num_samples=num_samples,
        steps=steps,
    )
    assert_equals(strategy, model, expected)


@pytest.mark.sampled
@pytest.mark.parametrize("kind", ["clipped AdamW", "nesterov"])
@pytest.mark.parametrize("start", [3, 0, 5])
@pytest.mark.parametrize("buffers", ["average", "maintain", "reset"])
@pytest.mark.parametrize("slower", [True, False], ids=["DiLoCo", "mean"])
def test_each_way_of_meeting(strategy, kind, start, buffers, slower):
    make, how = KINDS[kind], {"start": start, "buffers": buffers}
    way = tfdp.DiLoCo(outer(), 3, **how) if slower else tfdp.LocalSGD(3, **how)
    model = trained(strategy, make, way, 241)
    expected = local_updates.simulate(
        make,
        strategy.num_replicas_in_sync,
        3,
        num_samples=241,
        make_outer=outer if slower else None,
        **how,
    )
    assert_equals(strategy, model, expected)


@pytest.mark.parametrize("num_samples", later([256, 241], [241]))
def test_meeting_after_each_update_of_sgd_is_one_device(strategy, num_samples):
    make = KINDS["sgd"]
    model = trained(
        strategy, make, tfdp.LocalSGD(1), num_samples, constraint=None
    )
    plain = local_updates.make_model(None)
    plain.compile(make(), "mse")
    data = tf.data.Dataset.from_tensor_slices(local_updates.arrays(num_samples))
    plain.fit(
        data.batch(local_updates.GLOBAL_BATCH),
        epochs=local_updates.EPOCHS,
        verbose=0,
    )
    expected = [v.numpy() for v in plain.trainable_variables]
    assert_equals(strategy, model, [expected] * strategy.num_replicas_in_sync)


@pytest.mark.skipif(
    not hasattr(keras.optimizers, "MultiOptimizer"), reason="new in Keras 3.13"
)
def test_several_optimizers_update_alone(two_replicas):
    def make():
        return keras.optimizers.MultiOptimizer(
            keras.optimizers.OptimizerMap(
                keras.optimizers.SGD(0.05, momentum=0.9),
                {".*bias": keras.optimizers.Adam(0.01)},
            )
        )

    model = trained(two_replicas, make, tfdp.LocalSGD(3, start=2), 241)
    expected = local_updates.simulate(make, 2, 3, num_samples=241, start=2)
    assert_equals(two_replicas, model, expected)


def stamps(strategy, way, steps=8):
    """How often a replica looks at the clock, in as many steps."""
    times = itertools.count(1)
    with strategy.scope():
        model = local_updates.make_model()
        optimizer = tfdp.DistributedOptimizer(
            keras.optimizers.SGD(0.05), synchronization=way
        )
        model.compile(optimizer, "mse")
    meter = StepMeter(Settings(clock=lambda: float(next(times))))
    optimizer.measure_time(meter)
    meter.start(strategy)
    data = tf.data.Dataset.from_tensor_slices(local_updates.arrays(256))
    model.fit(
        data.batch(256 // steps),
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
    )
    for began, ready, reduced, _ in np.concatenate(meter.read()):
        assert began < min(ready, reduced)
    return next(times) - 1


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("way", "more"),
    [
        # The third round is ended by the epoch, outside of steps.
        (tfdp.LocalSGD(3), 2),
        (tfdp.LocalSGD(3, start=4), 4 + 1),
        (tfdp.Delayed(), 8),
    ],
    ids=["local", "post-local", "delayed"],
)
def test_the_time_of_meeting_is_measured(two_replicas, way, more):
    plain = stamps(two_replicas, tfdp.Synchronous())
    assert stamps(two_replicas, way) == plain + 2 * more
