"""Saved and loaded, training goes on as if it had not stopped."""

import keras
import numpy as np
import problem
import pytest
import tensorflow as tf

import tfdp


def make(strategy, steps=4):
    with strategy.scope():
        model = problem.make_model()
        optimizer = tfdp.DistributedOptimizer(
            keras.optimizers.Adam(0.01), accumulation_steps=steps
        )
        model.compile(optimizer, "mse")
    return model


def micro_batches(model, start, stop):
    strategy = model.distribute_strategy
    data = problem.dataset(256, 16).skip(start).take(stop - start)
    step = tf.function(
        lambda batch: strategy.run(model.train_step, args=(batch,))
    )
    build(model)
    for batch in strategy.experimental_distribute_dataset(data):
        step(batch)


def on(count):
    return tfdp.MirroredStrategy([f"CPU:{i}" for i in range(count)])


def build(model):
    with model.distribute_strategy.scope():
        model.build((None, 8))
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)


@pytest.mark.parametrize("replicas", [1, 2, 4])
@pytest.mark.parametrize("kind", ["model", "weights"])
def test_a_cycle_goes_on_with_any_number_of_replicas(tmp_path, replicas, kind):
    undisturbed = make(on(2))
    micro_batches(undisturbed, 0, 12)

    model = make(on(2))
    micro_batches(model, 0, 6)
    if kind == "model":
        model.save(tmp_path / "saved.keras")
        with on(replicas).scope():
            model = keras.models.load_model(tmp_path / "saved.keras")
    else:
        state = {}
        model.optimizer.save_own_variables(state)
        weights = model.get_weights()
        model = make(on(replicas))
        model.set_weights(weights)
        build(model)
        model.optimizer.load_own_variables(state)
    assert model.optimizer.accumulation_steps == 4
    assert int(model.optimizer.micro_step.numpy()) == 2
    micro_batches(model, 6, 12)
    assert int(model.optimizer.iterations.numpy()) == 3
    deviation = problem.deviation(
        model.get_weights(), undisturbed.get_weights()
    )
    assert deviation <= 1e-5


def test_a_state_between_updates_holds_no_cycle():
    model = make(on(2))
    micro_batches(model, 0, 4)
    state = {}
    model.optimizer.save_own_variables(state)
    assert not [name for name in state if name.startswith("accumulated")]


def test_a_cycle_is_not_dropped_in_silence():
    model = make(on(1))
    micro_batches(model, 0, 2)
    state = {}
    model.optimizer.save_own_variables(state)
    other = make(on(1), steps=1)
    build(other)
    with pytest.raises(ValueError, match="Received: accumulation_steps=1"):
        other.optimizer.load_own_variables(state)


def test_a_saved_model_predicts_outside_of_any_scope(tmp_path):
    model = make(on(2))
    micro_batches(model, 0, 5)
    model.save(tmp_path / "saved.keras")
    loaded = keras.models.load_model(tmp_path / "saved.keras")
    x, _ = problem.arrays(5)
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6
    )
    with pytest.raises(RuntimeError, match="needs a strategy that counts"):
        loaded.train_on_batch(*problem.arrays(5))
