"""Callbacks of a run that is resumed do what they would have done."""

import json
import pathlib
import random

import keras
import numpy as np
import pytest
from killed import KillAt, Killed

import tfdp

random_numbers = np.random.default_rng(0)
X = random_numbers.normal(size=(64, 4)).astype("float32")
Y = random_numbers.normal(size=(64, 1)).astype("float32")


class Watched(keras.callbacks.Callback):
    """A figure that is best in epoch 2."""

    def on_epoch_end(self, epoch, logs=None):
        logs["watched"] = float(abs(epoch - 2))


class Noise(keras.callbacks.Callback):
    """Draws a learning rate in every step, by Python and by NumPy."""

    def on_train_batch_begin(self, batch, logs=None):
        rate = 0.01 * (random.random() + np.random.random())
        self.model.optimizer.learning_rate = rate


class KerasNoise(keras.callbacks.Callback):
    """Draws one by Keras, without a seed."""

    def on_train_batch_begin(self, batch, logs=None):
        rate = 0.01 * float(keras.random.uniform(()))
        self.model.optimizer.learning_rate = rate


class Counts(keras.callbacks.Callback):
    """Counts steps; forgets them where training begins."""

    def on_train_begin(self, logs=None):
        self.steps = 0

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1


class Keeps(Counts):
    """The same, but for backups."""

    def get_state(self):
        return {"steps": self.steps, "last": np.arange(self.steps)[-2:]}

    def set_state(self, state):
        self.steps = state["steps"]
        assert state["last"].dtype.kind == "i"


class KeepsAnObject(Counts):
    def get_state(self):
        return self

    def set_state(self, state):
        raise AssertionError


def make_model(replicas=2, strategy=None):
    strategy = strategy or tfdp.MirroredStrategy(
        [f"CPU:{i}" for i in range(replicas)]
    )
    with strategy.scope():
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile(
            tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1)), "mse"
        )
    return model


def fit(model, folder, *more, epochs=12, **options):
    backup = tfdp.callbacks.BackupAndRestore(folder / "backups", **options)
    return model.fit(
        X,
        Y,
        batch_size=16,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel(), backup, Watched(), *more],
    )


def stopping(**options):
    return keras.callbacks.EarlyStopping(
        "watched", mode="min", patience=5, **options
    )


def reducing():
    return keras.callbacks.ReduceLROnPlateau(
        "watched", mode="min", factor=0.5, patience=3
    )


@pytest.mark.sampled
@pytest.mark.parametrize("replicas", [1, 2, 4])
@pytest.mark.parametrize("place", [(5, 0), (6, 2)], ids=str)
def test_patience_and_what_was_best_are_those_of_one_run(
    tmp_path, place, replicas
):
    def run(folder, *more):
        folder.mkdir(exist_ok=True)
        model = make_model(replicas)
        saving = keras.callbacks.ModelCheckpoint(
            folder / "best.weights.h5",
            monitor="watched",
            mode="min",
            save_best_only=True,
            save_weights_only=True,
        )
        stop = stopping(restore_best_weights=True)
        history = fit(
            model, folder, stop, reducing(), saving, *more, save_freq=1
        )
        return model, history, stop

    model, history, stop = run(tmp_path / "whole")
    assert len(history.epoch) == 8
    folder = tmp_path / "parts"
    with pytest.raises(Killed):
        run(folder, KillAt(*place))
    best = (folder / "best.weights.h5").read_bytes()
    resumed, again, stop_again = run(folder)
    assert again.epoch == history.epoch
    assert again.history["learning_rate"] == history.history["learning_rate"]
    assert (stop_again.best_epoch, stop_again.stopped_epoch) == (2, 7)
    assert stop_again.best == stop.best
    assert (folder / "best.weights.h5").read_bytes() == best
    for a, b in zip(resumed.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.sampled
@pytest.mark.parametrize("noise", [Noise, KerasNoise])
@pytest.mark.parametrize("place", [(1, 0), (2, 2)], ids=str)
def test_random_numbers_are_those_of_one_run(tmp_path, place, noise):
    whole = make_model()
    fit(whole, tmp_path / "whole", noise(), epochs=4, save_freq=1)
    with pytest.raises(Killed):
        fit(make_model(), tmp_path, noise(), KillAt(*place), save_freq=1)
    resumed = make_model()
    fit(resumed, tmp_path, noise(), epochs=4, save_freq=1)
    for a, b in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.sampled
@pytest.mark.parametrize("place", [(1, 0), (2, 2)], ids=str)
def test_a_callback_that_gives_its_state_gets_it_back(tmp_path, place):
    with pytest.raises(Killed):
        fit(make_model(), tmp_path, Keeps(), KillAt(*place), save_freq=1)
    keeps = Keeps()
    fit(make_model(), tmp_path, keeps, epochs=4, save_freq=1)
    assert keeps.steps == 4 * 4


def test_a_callback_that_does_not_is_named_once(tmp_path):
    with pytest.raises(Killed):
        fit(make_model(), tmp_path, Counts(), KillAt(2, 1))
    with pytest.warns(UserWarning, match="some that begin anew") as caught:
        fit(make_model(), tmp_path, Counts(), epochs=4)
    (message,) = [
        str(each.message)
        for each in caught
        if "begin anew" in str(each.message)
    ]
    assert "Counts (steps)" in message
    assert "KillAt" not in message


def test_functions_that_remember_are_named_with_what(tmp_path):
    def more(seen):
        return keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: seen.append(epoch)
        )

    with pytest.raises(Killed):
        fit(make_model(), tmp_path, more([]), KillAt(1, 1))
    with pytest.warns(UserWarning, match="LambdaCallback \\(seen\\)"):
        fit(make_model(), tmp_path, more([]), epochs=3)


def test_functions_that_remember_nothing_are_not_named(tmp_path):
    def more():
        return keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: logs.pop("watched")
        )

    with pytest.raises(Killed):
        fit(make_model(), tmp_path, more(), KillAt(1, 1))
    fit(make_model(), tmp_path, more(), epochs=3)


def test_a_state_that_cannot_be_saved_is_refused_before_the_first_step(
    tmp_path,
):
    model = make_model()
    with pytest.raises(TypeError, match="Received, of KeepsAnObject"):
        fit(model, tmp_path, KeepsAnObject())
    assert int(model.optimizer.iterations.numpy()) == 0


def test_a_run_that_was_stopped_early_has_reached_its_end(tmp_path):
    options = {"delete_checkpoint": False}
    whole = make_model()
    fit(whole, tmp_path, stopping(restore_best_weights=True), **options)
    again = make_model()
    history = fit(
        again, tmp_path, stopping(restore_best_weights=True), **options
    )
    assert len(history.epoch) == 8
    for a, b in zip(again.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_backup_without_callbacks_is_read_and_their_loss_told(tmp_path):
    with pytest.raises(Killed):
        fit(make_model(), tmp_path, stopping(), KillAt(4, 1))
    for path in (tmp_path / "backups").glob("*.npz"):
        with np.load(path) as file:
            arrays = dict(file)
        about, names = json.loads(arrays["about"].tobytes())
        del about["callbacks"], about["random"]
        text = json.dumps([about, names]).encode()
        np.savez(path, **{**arrays, "about": np.frombuffer(text, np.uint8)})
    with pytest.warns(UserWarning, match="EarlyStopping \\(not in the backup"):
        history = fit(make_model(), tmp_path, stopping())
    assert history.epoch[:5] == [0, 1, 2, 3, 4]


def on_a_worker(folder):
    """Trains whole and in parts; random numbers are each worker's own."""
    strategy = tfdp.MultiWorkerMirroredStrategy()
    found = {}
    for name, places in [("whole", []), ("parts", [(3, 1), (6, 2)])]:
        for place in [*places, (99, 0)]:
            model = make_model(strategy=strategy)
            random.seed(strategy.worker_index)
            stop = stopping(restore_best_weights=True)
            draws = Draws()
            more = [stop, draws, Keeps(), KillAt(*place)]
            try:
                history = fit(
                    model, pathlib.Path(folder) / name, *more, save_freq=1
                )
            except Killed:
                continue
        found[name] = {
            "epochs": history.epoch,
            "weights": [each.tolist() for each in model.get_weights()],
            "steps": more[2].steps,
            "drawn": draws.last,
        }
    return found


class Draws(keras.callbacks.Callback):
    """Draws, and trains with none of it."""

    def on_epoch_end(self, epoch, logs=None):
        self.last = random.random()

    def get_state(self):
        return getattr(self, "last", None)

    def set_state(self, state):
        self.last = state


@pytest.mark.multi_worker
def test_every_worker_goes_on_where_it_was(tmp_path):
    by_worker = tfdp.testing.run_workers(on_a_worker, 2, [str(tmp_path)])
    for found in by_worker:
        assert found["parts"] == found["whole"]
        assert found["whole"]["epochs"] == list(range(8))
        assert found["whole"]["steps"] == 8 * 4
    first, second = (found["whole"]["drawn"] for found in by_worker)
    assert first != second
