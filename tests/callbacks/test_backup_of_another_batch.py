"""A backup whose updates saw another number of samples is refused."""

import hashlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from killed import KillAt, Killed

import tfdp
from tfdp.backup.backup_folder import BackupFolder

SAMPLES = 60
X = np.random.default_rng(0).normal(size=(SAMPLES, 4)).astype("float32")
Y = X.sum(1, keepdims=True)


def samples():
    return tf.data.Dataset.from_tensor_slices((X, Y))


def make_model(replicas, steps, kind=keras.Sequential):
    strategy = tfdp.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])
    with strategy.scope():
        keras.utils.set_random_seed(3)
        model = kind([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile(
            tfdp.DistributedOptimizer(
                keras.optimizers.SGD(0.05, momentum=0.9),
                accumulation_steps=steps,
            ),
            "mse",
        )
    return model


def fit(model, folder, data, *more, epochs=2, **options):
    backup = tfdp.callbacks.BackupAndRestore(folder, 1)
    callbacks = [tfdp.callbacks.DataParallel(), backup, *more]
    model.fit(data, epochs=epochs, verbose=0, callbacks=callbacks, **options)


def killed_fit(folder, data, replicas=2, steps=2, at=(1, 1), **options):
    model = make_model(replicas, steps)
    with pytest.raises(Killed):
        fit(model, folder, data, KillAt(*at), **options)


def contents(folder):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
    }


@pytest.mark.parametrize(
    ("size", "steps"),
    [
        pytest.param(10, 1, marks=pytest.mark.long),
        (5, 2),
        pytest.param(30, 1, marks=pytest.mark.long),
    ],
)
def test_another_global_batch_is_refused_and_nothing_is_lost(
    tmp_path, size, steps
):
    whole = make_model(1, 1)
    fit(whole, tmp_path / "whole", samples().batch(20))
    folder = tmp_path / "backups"
    killed_fit(folder, samples().batch(10))
    before = contents(folder)
    model = make_model(1, steps)
    weights = model.get_weights()
    with pytest.raises(
        ValueError, match="must be of the global batch that resumes"
    ) as caught:
        fit(model, folder, samples().batch(size))
    assert (
        f"Received: a global batch of {size * steps} (micro-batch {size} x "
        f"{steps} accumulation steps), with" in str(caught.value)
    )
    assert f"a backup in {folder} made with one of 20." in str(caught.value)
    assert "BatchPlan(global_batch=20, max_per" in str(caught.value)
    assert contents(folder) == before
    for now, then in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(now, then)
    # With that one it goes on, in other micro-batches.
    resumed = make_model(1, 1)
    with pytest.warns(UserWarning, match="Resuming on 1 replicas"):
        fit(resumed, folder, samples().batch(20))
    for a, b in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_arrays_tell_their_batch_too(tmp_path):
    options = {"y": Y, "shuffle": False}
    killed_fit(tmp_path, X, batch_size=10, **options)
    with pytest.raises(ValueError, match="of 12 .* made with one of 20"):
        fit(make_model(2, 2), tmp_path, X, batch_size=6, **options)
    fit(make_model(2, 1), tmp_path, X, batch_size=20, **options)


def test_endless_data_tell_their_batch_too(tmp_path):
    data, options = samples().repeat(), {"steps_per_epoch": 4}
    killed_fit(tmp_path, data.batch(10), **options)
    # As many updates in each epoch, which so far was all that was compared.
    with pytest.raises(ValueError, match="of 32 .* made with one of 20"):
        fit(make_model(2, 2), tmp_path, data.batch(16), **options)


def test_a_short_last_batch_is_no_other_batch(tmp_path, capsys):
    killed_fit(tmp_path, samples().batch(8), at=(0, 3))
    fit(make_model(2, 1), tmp_path, samples().batch(16))
    assert "Resuming at epoch 1, batch " in capsys.readouterr().out


def generator(size):
    def batches():
        for begin in range(0, SAMPLES, size):
            yield X[begin : begin + size], Y[begin : begin + size]

    spec = [tf.TensorSpec((None, n), tf.float32) for n in (4, 1)]
    return tf.data.Dataset.from_generator(batches, output_signature=tuple(spec))


@pytest.mark.filterwarnings("ignore:The data must be")
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize(
    ("before", "now"),
    [
        pytest.param(generator(10), generator(20), marks=pytest.mark.long),
        pytest.param(
            samples().batch(10), generator(20), marks=pytest.mark.long
        ),
        (generator(10), samples().batch(20)),
    ],
    ids=["neither", "before", "now"],
)
def test_where_nobody_knows_the_batch_nothing_is_refused(
    tmp_path, capsys, before, now
):
    killed_fit(tmp_path, before, steps=2)
    fit(make_model(2, 1), tmp_path, now)
    assert "Resuming at epoch " in capsys.readouterr().out


class TwoOptimizers(keras.Sequential):
    """Has a step of its own, in which the second one accumulates."""

    def compile(self, optimizer, loss):
        self.first = tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1))
        self.second = optimizer
        super().compile(self.first, loss)
        for each, part in ((self.first, 0), (self.second, 1)):
            each.build([self.trainable_variables[part]])

    def train_step(self, data):
        x, y = data
        with tf.GradientTape(persistent=True) as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        for each, part in ((self.first, 0), (self.second, 1)):
            variables = [self.trainable_variables[part]]
            each.apply(tape.gradient(loss, variables), variables)
        return {"loss": loss}


def test_optimizers_of_different_cycles_have_no_one_batch(tmp_path):
    for size, steps in ((10, 2), (20, 1)):
        model = make_model(2, steps, TwoOptimizers)
        if steps == 2:
            with pytest.raises(Killed):
                fit(model, tmp_path, samples().batch(size), KillAt(1, 1))
        else:
            with pytest.warns(UserWarning, match="3 updates per epoch"):
                fit(model, tmp_path, samples().batch(size))


def test_a_backup_of_more_epochs_is_told_as_before(tmp_path):
    """Nothing is trained in another batch."""
    killed_fit(tmp_path, samples().batch(10), at=(1, 3))
    with pytest.warns(UserWarning, match="must be epochs left to train"):
        fit(make_model(2, 1), tmp_path, samples().batch(25), epochs=1)


def test_a_backup_of_before_says_nothing_of_its_batch(tmp_path):
    killed_fit(tmp_path, samples().batch(10))
    folder = BackupFolder(tmp_path, keep=9)
    backup = folder.newest()
    assert backup.about.pop("global_batch") == 20
    folder.save(backup.about["updates"], backup)
    with pytest.warns(UserWarning, match="6 updates per epoch, instead of 3"):
        fit(make_model(2, 1), tmp_path, samples().batch(10))
