"""A state that replicas have shared out is saved, loaded and backed up."""

import keras
import numpy as np
import pytest
import sharded_state
import tensorflow as tf
from killed import KillAt, Killed
from owners import assert_equals, built, later
from problem import deviation
from sharded_state import OPTIMIZERS, compiled, fit, of_replicas, on_one_device

import tfdp


@pytest.mark.parametrize(
    "kind", later(["Adam", "Muon", "Nadam", "RMSprop, scheduled"], ["Nadam"])
)
def test_a_saved_state_goes_to_any_number_of_owners_and_to_none(
    two_replicas, four_replicas, tmp_path, kind
):
    path = tmp_path / "model.keras"
    fit(compiled(two_replicas, kind), epochs=1).save(path)
    with four_replicas.scope():
        model = keras.models.load_model(path)
    assert type(model.optimizer.synchronization) is tfdp.ShardedState
    fit(model, epochs=1)
    plain = sharded_state.make_model()
    plain.compile(OPTIMIZERS[kind](), "mse")
    plain.optimizer.build(plain.trainable_variables)
    store = {}
    model.optimizer.inner_optimizer.save_own_variables(store)
    plain.optimizer.load_own_variables(store)
    plain.set_weights(model.get_weights())
    plain.fit(sharded_state.dataset(), epochs=1, verbose=0)
    model = built(compiled(two_replicas, kind), two_replicas)
    plain.optimizer.save_own_variables(store)
    model.optimizer.inner_optimizer.load_own_variables(store)
    model.set_weights(plain.get_weights())
    fit(model, epochs=1)
    assert_equals(two_replicas, model, on_one_device(kind, epochs=4))


@pytest.mark.long
def test_a_state_of_plain_updates_goes_on_sharded(
    two_replicas, tmp_path, oracle
):
    path = tmp_path / "model.weights.h5"
    whole = compiled(two_replicas, "Adam", synchronization=tfdp.Synchronous())
    fit(whole, epochs=1).save(tmp_path / "model.keras")
    with two_replicas.scope():
        loaded = keras.models.load_model(tmp_path / "model.keras")
    store = {}
    loaded.optimizer.save_own_variables(store)
    model = built(compiled(two_replicas, "Adam"), two_replicas)
    model.optimizer.load_own_variables(store)
    whole.save_weights(path)
    model.load_weights(path)
    fit(model, epochs=1)
    assert_equals(two_replicas, model, oracle("Adam"))


def test_the_best_model_of_a_fit_holds_all_slots(two_replicas, tmp_path):
    path = tmp_path / "best.keras"
    saving = keras.callbacks.ModelCheckpoint(path)
    model = fit(compiled(two_replicas, "Adam"), saving)
    with two_replicas.scope():
        loaded = keras.models.load_model(path)
    for actual, expected in zip(
        loaded.optimizer.variables, model.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(actual.numpy(), expected.numpy())


def test_a_checkpoint_of_tensorflow_holds_all_slots(two_replicas, tmp_path):
    model = fit(compiled(two_replicas, "Adam"), epochs=1)
    path = tf.train.Checkpoint(optimizer=model.optimizer).save(
        str(tmp_path / "checkpoint")
    )
    other = built(compiled(two_replicas, "Adam"), two_replicas)
    tf.train.Checkpoint(optimizer=other.optimizer).restore(path)
    for actual, expected in zip(
        other.optimizer.owned_variables,
        model.optimizer.owned_variables,
        strict=True,
    ):
        np.testing.assert_array_equal(actual.numpy(), expected.numpy())


def test_a_model_that_only_predicts_is_loaded_anywhere(two_replicas, tmp_path):
    path = tmp_path / "model.keras"
    model = fit(compiled(two_replicas, "Adam"), epochs=1)
    model.save(path)
    x, _ = sharded_state.arrays()
    np.testing.assert_allclose(
        keras.models.load_model(path).predict(x, verbose=0),
        model.predict(x, verbose=0),
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("kind", "steps"),
    [
        ("Nadam", 1),
        pytest.param("AdamW, clipped", 2, marks=pytest.mark.long),
        pytest.param("Muon", 1, marks=pytest.mark.long),
    ],
)
def test_a_killed_run_goes_on_to_the_bit(two_replicas, tmp_path, kind, steps):
    undisturbed = fit(compiled(two_replicas, kind, steps))
    backup = tfdp.callbacks.BackupAndRestore(tmp_path, save_freq=1)
    with pytest.raises(Killed):
        fit(compiled(two_replicas, kind, steps), backup, KillAt(1, 1))
    again = compiled(two_replicas, kind, steps)
    fit(again, tfdp.callbacks.BackupAndRestore(tmp_path, save_freq=1))
    everything = [
        (one, other)
        for one, other in zip(
            [*again.variables, *again.optimizer.variables],
            [*undisturbed.variables, *undisturbed.optimizer.variables],
            strict=True,
        )
    ]
    for one, other in everything:
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    one, other = of_replicas(two_replicas, again.weights)
    assert deviation(one, other) == 0


@pytest.mark.long
def test_a_backup_of_two_owners_is_resumed_by_four(
    two_replicas, four_replicas, tmp_path, oracle
):
    with pytest.raises(Killed):
        fit(
            compiled(two_replicas, "Nadam"),
            tfdp.callbacks.BackupAndRestore(tmp_path, save_freq=1),
            KillAt(1, 1),
        )
    model = compiled(four_replicas, "Nadam")
    with pytest.warns(UserWarning, match="Resuming on 4 replicas"):
        fit(model, tfdp.callbacks.BackupAndRestore(tmp_path, save_freq=1))
    assert_equals(four_replicas, model, oracle("Nadam"))


@pytest.mark.long
def test_a_second_fit_goes_on(two_replicas, oracle):
    model = fit(compiled(two_replicas, "Adam"), epochs=1)
    fit(model, epochs=1)
    assert_equals(two_replicas, model, oracle("Adam"))
