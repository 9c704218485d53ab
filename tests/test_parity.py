"""Equal to one device: optimizers x replicas x accumulation x sizes."""

import functools
import itertools

import numpy as np
import problem
import pytest

import tfdp


@functools.cache
def oracle(name, num_samples):
    model, history = problem.train_on_one_device(
        problem.OPTIMIZERS[name], num_samples
    )
    return model.get_weights(), history, int(model.optimizer.iterations.numpy())


@functools.lru_cache(maxsize=1)
def compiled(replicas, name, steps):
    """A model, traced once for all sizes, and its state before training."""
    strategy = tfdp.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])
    with strategy.scope():
        model = problem.make_model()
        optimizer = tfdp.DistributedOptimizer(
            problem.OPTIMIZERS[name](), accumulation_steps=steps
        )
        model.compile(optimizer, "mse", metrics=["mae"])
        optimizer.build(model.trainable_variables)
    variables = [*model.variables, *optimizer.variables]
    return model, [(v, v.numpy()) for v in variables]


def train(replicas, name, steps, num_samples):
    model, start = compiled(replicas, name, steps)
    for variable, value in start:
        variable.assign(value)
    data = problem.dataset(num_samples, problem.GLOBAL_BATCH // steps)
    history = model.fit(
        data,
        validation_data=data,
        epochs=problem.EPOCHS,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
    ).history
    return model, history


CASES = [
    pytest.param(*case, marks=pytest.mark.xdist_group("{}-{}-{}".format(*case)))
    for case in itertools.product([1, 2, 4], problem.OPTIMIZERS, [1, 2, 4])
]


@pytest.mark.parametrize("num_samples", [256, 250, 193])  # varies fastest
@pytest.mark.parametrize(("replicas", "name", "steps"), CASES)
def test_training_equals_one_device_with_one_large_batch(
    replicas, name, steps, num_samples
):
    weights, history, updates = oracle(name, num_samples)
    model, actual = train(replicas, name, steps, num_samples)
    assert int(model.optimizer.iterations.numpy()) == updates
    assert (
        problem.deviation(model.get_weights(), weights)
        <= problem.TOLERANCE[name]
    )
    # Training logs are taken while weights move, so only accumulation 1 has
    # the oracle's; validation sees the weights of whole updates.
    compared = ["val_loss", "val_mae"] + (["loss", "mae"] if steps == 1 else [])
    for key in compared:
        np.testing.assert_allclose(actual[key], history[key], rtol=1e-4)


def test_the_oracle_learns_something():
    _, history, _ = oracle("adam", 256)
    assert history["loss"][-1] < 0.8 * history["loss"][0]
