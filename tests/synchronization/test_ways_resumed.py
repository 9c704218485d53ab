"""Whatever way replicas synchronise, a run that is killed goes on as it was."""

import keras
import local_updates
import numpy as np
import pytest
import tensorflow as tf
from alike import check_alike
from grids import later
from killed import KillAt, Killed

import tfdp

WAYS = {
    "local": lambda: tfdp.LocalSGD(3),
    "post-local": lambda: tfdp.LocalSGD(3, start=5, buffers="average"),
    "DiLoCo": lambda: tfdp.DiLoCo(
        keras.optimizers.SGD(0.7, momentum=0.9, nesterov=True), 3
    ),
    "delayed": tfdp.Delayed,
}


def make_model(way, replicas=2):
    strategy = tfdp.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])
    with strategy.scope():
        model = local_updates.make_model()
        optimizer = tfdp.DistributedOptimizer(
            keras.optimizers.AdamW(0.01, global_clipnorm=0.2),
            synchronization=WAYS[way](),
        )
        model.compile(optimizer, "mse", metrics=["mae"])
    return model


def fit(model, folder, *more):
    data = tf.data.Dataset.from_tensor_slices(local_updates.arrays(241))
    return model.fit(
        data.shuffle(241, seed=3).batch(32),
        epochs=3,
        verbose=0,
        callbacks=[
            tfdp.callbacks.DataParallel(),
            tfdp.callbacks.BackupAndRestore(folder, save_freq=2),
            *more,
        ],
    )


def of_replicas(model):
    strategy = model.distribute_strategy
    return [
        part.numpy()
        for variable in (*model.variables, *model.optimizer.variables)
        for part in strategy.experimental_local_results(variable.value)
    ]


@pytest.mark.long
@pytest.mark.sampled
@pytest.mark.parametrize("way", later(WAYS, ["DiLoCo", "delayed"]))
@pytest.mark.parametrize("place", later([(0, 6), (1, 4)], [(1, 4)]), ids=str)
def test_a_killed_run_goes_on_bit_by_bit(tmp_path, way, place):
    whole = make_model(way)
    history = fit(whole, tmp_path / "whole").history
    with pytest.raises(Killed):
        fit(make_model(way), tmp_path / "killed", KillAt(*place))
    resumed = make_model(way)
    assert fit(resumed, tmp_path / "killed").history == history
    for value, expected in zip(
        of_replicas(resumed), of_replicas(whole), strict=True
    ):
        np.testing.assert_array_equal(value, expected)


@pytest.mark.long
@pytest.mark.parametrize("way", later(WAYS, ["DiLoCo"]))
def test_it_goes_on_with_other_replicas(tmp_path, way):
    with pytest.raises(Killed):
        fit(make_model(way), tmp_path, KillAt(1, 4))
    model = make_model(way, replicas=4)
    with pytest.warns(UserWarning, match="replicas"):
        fit(model, tmp_path)
    assert model.optimizer.iterations.numpy() == 3 * 8


@pytest.mark.parametrize("way", later(WAYS, ["DiLoCo"]))
def test_a_second_fit_begins_with_one_model(tmp_path, way):
    model = make_model(way)
    fit(model, tmp_path / "first")
    fit(model, tmp_path / "second")
    check_alike(model)


@pytest.mark.parametrize("way", later(WAYS, ["DiLoCo"]))
def test_a_saved_model_is_loaded_with_its_way(tmp_path, way):
    model = make_model(way)
    fit(model, tmp_path / "backups")
    model.save(tmp_path / "model.keras")
    x, _ = local_updates.arrays(10)
    plainly = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        plainly.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6
    )
    with tfdp.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        loaded = keras.saving.load_model(tmp_path / "model.keras")
    kind = type(model.optimizer.synchronization)
    assert type(loaded.optimizer.synchronization) is kind
    for value, expected in zip(
        loaded.optimizer.variables, model.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(value.numpy(), expected.numpy())
    fit(loaded, tmp_path / "more")
