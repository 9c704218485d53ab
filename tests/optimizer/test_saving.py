"""Saved and loaded, training goes on as if it had not stopped."""

import os
import subprocess
import sys

import keras
import numpy as np
import problem
import pytest
import tensorflow as tf
from places import SHARED

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


@pytest.mark.sampled
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
    with pytest.raises(RuntimeError, match="strategy that counts"):
        loaded.train_on_batch(*problem.arrays(5))


@pytest.mark.sampled
@pytest.mark.parametrize("replicas", [1, 2, 4])
@pytest.mark.parametrize("is_built", [True, False], ids=["built", "lazy"])
def test_a_checkpoint_of_tensorflow_holds_the_cycle(
    tmp_path, replicas, is_built
):
    undisturbed = make(on(2))
    micro_batches(undisturbed, 0, 12)

    model = make(on(2))
    micro_batches(model, 0, 6)
    saved = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
    path = saved.save(tmp_path / "saved")
    model = make(on(replicas))
    if is_built:
        build(model)
    restored = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
    restored.restore(path)
    micro_batches(model, 6, 12)
    assert int(model.optimizer.iterations.numpy()) == 3
    deviation = problem.deviation(
        model.get_weights(), undisturbed.get_weights()
    )
    assert deviation <= 1e-5


WITHOUT_TFDP = """
import sys
sys.modules["tfdp"] = None
import keras, numpy as np
import problem
x, _ = problem.arrays(5)
model = problem.make_model()
model.load_weights(sys.argv[1] + "/saved.weights.h5")
first = model.predict(x, verbose=0)
model = keras.models.load_model(sys.argv[1] + "/saved.keras", compile=False)
np.testing.assert_array_equal(model.predict(x, verbose=0), first)
np.save(sys.argv[1] + "/predicted.npy", first)
"""


@pytest.mark.long
def test_what_is_saved_predicts_where_tfdp_is_not_installed(tmp_path):
    with on(2).scope():
        model = problem.make_model()
        model.compile(
            tfdp.DistributedOptimizer(keras.optimizers.Adam(0.01), 4),
            tfdp.DistributedLoss(
                keras.losses.MeanSquaredError(reduction="sum")
            ),
        )
    build(model)
    model.save(tmp_path / "saved.keras")
    model.save_weights(tmp_path / "saved.weights.h5")
    subprocess.run(
        [sys.executable, "-c", WITHOUT_TFDP, tmp_path],
        env={**os.environ, "PYTHONPATH": str(SHARED)},
        check=True,
        timeout=300,
    )
    x, _ = problem.arrays(5)
    np.testing.assert_allclose(
        np.load(tmp_path / "predicted.npy"),
        model.predict(x, verbose=0),
        atol=1e-6,
    )


def test_a_distributed_loss_comes_back(tmp_path):
    with on(2).scope():
        model = problem.make_model()
        model.compile(
            tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1)),
            tfdp.DistributedLoss(
                keras.losses.Tversky(alpha=0.25), over="batch", name="overlap"
            ),
        )
    build(model)
    model.save(tmp_path / "saved.keras")
    with on(2).scope():
        loaded = keras.models.load_model(tmp_path / "saved.keras")
    assert isinstance(loaded.loss, tfdp.DistributedLoss)
    assert (loaded.loss.over, loaded.loss.name) == ("batch", "overlap")
    assert loaded.loss.loss.alpha == 0.25


def test_exporting_leaves_the_optimizer_out(tmp_path):
    model = make(on(2))
    micro_batches(model, 0, 5)
    model.export(tmp_path / "served", verbose=False)
    x, _ = problem.arrays(5)
    served = tf.saved_model.load(tmp_path / "served")
    np.testing.assert_allclose(
        served.serve(x), model.predict(x, verbose=0), atol=1e-6
    )


@pytest.mark.parametrize("reduction", ["sum", "sum_over_batch_size"])
def test_a_loaded_cycle_is_flushed_as_it_would_have_been(tmp_path, reduction):
    """What micro-batches gave gradients for, and of what kind, is saved too."""
    with on(2).scope():
        inputs = keras.Input((8,))
        used = keras.layers.Dense(1, use_bias=False)
        unused = keras.layers.Dense(1, use_bias=False)
        model = keras.Model(inputs, [used(inputs), unused(inputs)])
        loss = keras.losses.MeanSquaredError(reduction=reduction)
        if reduction == "sum":
            loss = tfdp.DistributedLoss(loss)
        model.compile(
            tfdp.DistributedOptimizer(
                keras.optimizers.AdamW(0.1, weight_decay=0.5), 2
            ),
            [loss, None],
        )
    x, y = problem.arrays(6)
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        model.train_on_batch(x, [y, y])
    model.save(tmp_path / "saved.keras")
    with on(1).scope():
        loaded = keras.models.load_model(tmp_path / "saved.keras")
    for each in (model, loaded):
        each.optimizer.flush()
        assert int(each.optimizer.iterations.numpy()) == 1
    assert problem.deviation(loaded.get_weights(), model.get_weights()) <= 1e-5


def test_a_flush_is_that_of_the_loss_compiled_last():
    x, y = problem.arrays(12)
    summed = tfdp.DistributedLoss(
        keras.losses.MeanSquaredError(reduction="sum")
    )
    weights = []
    for reuse in (True, False):
        with on(2).scope():
            keras.utils.set_random_seed(1)
            model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
            model.compile(
                tfdp.DistributedOptimizer(keras.optimizers.SGD(0.01), 2),
                summed,
            )
        fit = {"batch_size": 4, "shuffle": False, "verbose": 0}
        callbacks = [tfdp.callbacks.DataParallel()]
        model.fit(x, y, callbacks=callbacks, **fit)
        with model.distribute_strategy.scope():
            optimizer = model.optimizer
            if not reuse:
                optimizer = tfdp.DistributedOptimizer(
                    keras.optimizers.SGD(0.01), 2
                )
            model.compile(optimizer, "mse")
        model.fit(x, y, callbacks=callbacks, **fit)
        weights.append(model.get_weights())
    assert problem.deviation(*weights) <= 1e-6


# Of any optimizer that has no state yet.
@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer")
@pytest.mark.parametrize("steps", [1, 2])
def test_what_was_compiled_and_never_trained_is_saved(
    two_replicas, tmp_path, steps
):
    with two_replicas.scope():
        model = problem.make_model()
        optimizer = tfdp.DistributedOptimizer(
            keras.optimizers.Adam(0.01), accumulation_steps=steps
        )
        model.compile(optimizer, "mse")
    assert not optimizer.is_mid_cycle
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.accumulation_steps == steps
    for one, other in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_variables_may_come_from_a_generator():
    variables = [keras.Variable(np.ones(2, "float32"))]
    optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(0.5))
    optimizer.apply([tf.ones(2)], (variable for variable in variables))
    np.testing.assert_array_equal(variables[0].numpy(), [0.5, 0.5])
