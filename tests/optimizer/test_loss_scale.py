"""Loss scaling: off by default, agreed by all replicas, never losing more."""

import keras
import numpy as np
import problem
import pytest
import tensorflow as tf

import tfdp

BIG = np.float32(3e38)


def make(strategy, steps=1, **arguments):
    with strategy.scope():
        variable = keras.Variable([1.0])
        optimizer = tfdp.DistributedOptimizer(
            keras.optimizers.SGD(1.0), steps, **arguments
        )
        optimizer.build([variable])
    return variable, optimizer


def step(strategy, variable, optimizer, gradients):
    """Gives each replica a gradient, as of a loss divided by the replicas."""

    def on_replica(gradient):
        scaled = optimizer.scale_loss(gradient) / 2
        optimizer.apply([scaled], [variable])

    @tf.function
    def run(values):
        strategy.run(on_replica, args=(values,))

    run(
        strategy.experimental_distribute_values_from_function(
            lambda c: tf.constant([gradients[c.replica_id_in_sync_group]])
        )
    )


def state(variable, optimizer):
    return (
        float(variable.numpy()[0]),
        float(optimizer.dynamic_scale.numpy()),
        int(optimizer.skipped_updates.numpy()),
        int(optimizer.iterations.numpy()),
    )


def test_it_is_off_in_float32_and_on_in_float16(two_replicas):
    _, optimizer = make(two_replicas)
    assert optimizer.loss_scale is None
    assert float(optimizer.scale_loss(tf.constant(3.0))) == 3.0
    keras.config.set_dtype_policy("mixed_float16")
    _, optimizer = make(two_replicas)
    assert optimizer.loss_scale == "dynamic"
    assert float(optimizer.scale_loss(tf.constant(3.0))) == 3.0 * 2**15


@pytest.mark.parametrize("replica", [0, 1])
@pytest.mark.parametrize("bad", [np.inf, np.nan], ids=["inf", "nan"])
def test_any_replica_skips_the_update_for_all(two_replicas, replica, bad):
    variable, optimizer = make(two_replicas, loss_scale="dynamic")
    gradients = [1.0, 1.0]
    gradients[replica] = bad
    step(two_replicas, variable, optimizer, gradients)
    assert state(variable, optimizer) == (1.0, 2.0**14, 1, 0)
    step(two_replicas, variable, optimizer, [0.25, 0.75])
    assert state(variable, optimizer) == (0.5, 2.0**14, 1, 1)
    values = two_replicas.experimental_local_results(variable.value)
    assert [float(v.numpy()[0]) for v in values] == [0.5, 0.5]


@pytest.mark.parametrize("position", [0, 1, 2])
def test_any_micro_batch_skips_exactly_its_cycle(two_replicas, position):
    variable, optimizer = make(two_replicas, steps=3, loss_scale="dynamic")
    for micro_step in range(3):
        bad = np.inf if micro_step == position else 0.5
        step(two_replicas, variable, optimizer, [0.5, bad])
    assert state(variable, optimizer) == (1.0, 2.0**14, 1, 0)
    for _ in range(3):
        step(two_replicas, variable, optimizer, [0.5, 0.5])
    assert state(variable, optimizer) == (0.5, 2.0**14, 1, 1)


def test_a_dynamic_scale_grows_after_enough_finite_updates(two_replicas):
    variable, optimizer = make(
        two_replicas, loss_scale="dynamic", dynamic_growth_steps=2
    )
    scales = []
    for _ in range(4):
        step(two_replicas, variable, optimizer, [0.0, 0.0])
        scales.append(float(optimizer.dynamic_scale.numpy()) / 2**15)
    assert scales == [1, 2, 2, 4]


def test_the_scale_has_a_floor(two_replicas):
    variable, optimizer = make(
        two_replicas, loss_scale="dynamic", initial_scale=2.0
    )
    for _ in range(4):
        step(two_replicas, variable, optimizer, [np.nan, 0.0])
    assert state(variable, optimizer) == (1.0, 1.0, 4, 0)


def test_a_static_scale_stays_and_still_skips(two_replicas):
    variable, optimizer = make(two_replicas, loss_scale=64.0)
    step(two_replicas, variable, optimizer, [np.inf, 0.0])
    step(two_replicas, variable, optimizer, [0.5, 0.5])
    assert state(variable, optimizer) == (0.5, 64.0, 1, 1)


def test_float16_training_follows_float32(two_replicas):
    keras.config.set_dtype_policy("mixed_float16")
    with two_replicas.scope():
        model = problem.make_model()
        optimizer = tfdp.DistributedOptimizer(
            problem.OPTIMIZERS["momentum"](), accumulation_steps=2
        )
        model.compile(optimizer, "mse")
    assert model.optimizer is optimizer
    model.fit(
        problem.dataset(120, 32),
        epochs=problem.EPOCHS,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
    )
    keras.config.set_dtype_policy("float32")
    expected, _ = problem.train_on_one_device(
        problem.OPTIMIZERS["momentum"], 120
    )
    actual = model.get_weights()
    assert problem.deviation(actual, expected.get_weights()) <= 5e-3


def test_the_scale_has_a_ceiling(two_replicas):
    """From an infinite one there would be no way back."""
    variable, optimizer = make(
        two_replicas,
        loss_scale="dynamic",
        initial_scale=2.0**23,
        dynamic_growth_steps=1,
    )
    for _ in range(4):
        step(two_replicas, variable, optimizer, [0.0, 0.0])
    assert float(optimizer.dynamic_scale.numpy()) == 2.0**24
