"""Callbacks of workers that do not wait for each other."""

import asynchronous_callbacks
import asynchronous_fit
import keras
import numpy as np
import pytest

import tfdp
from tfdp.callbacks.apart import on_chief_only_apart

CPUS = ["CPU:0"]


@pytest.fixture(scope="module")
def strategy():
    made = tfdp.AsynchronousStrategy(0, devices=CPUS)
    yield made
    made._server.close()


def fit(strategy, *callbacks, optimizer=None, **kwargs):
    with strategy.scope():
        model = asynchronous_fit.make_model()
        model.compile(
            tfdp.DistributedOptimizer(
                optimizer or keras.optimizers.SGD(0.05, momentum=0.9)
            ),
            "mse",
        )
    model.fit(
        *asynchronous_fit.samples(),
        batch_size=8,
        shuffle=False,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel(), *callbacks],
        **kwargs,
    )
    return model


@pytest.mark.multi_worker
def test_all_callbacks_do_on_workers_what_they_do_elsewhere(tmp_path):
    chief, other = tfdp.testing.run_workers(
        asynchronous_callbacks.train, 2, [str(tmp_path)], asynchronous=True
    )
    # To swap averages in and out rounds.
    for one, two in zip(chief["weights"], other["weights"], strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)
    assert chief["history"].keys() == other["history"].keys()
    for name, values in chief["history"].items():
        np.testing.assert_allclose(values, other["history"][name], rtol=1e-5)
    history = chief["history"]
    # Stopped after the epoch that begins to be patient, and the next one.
    assert len(history["loss"]) == 3
    np.testing.assert_allclose(history["learning_rate"], [0.01, 0.005, 0.00125])
    # Told once they are settled, as an epoch begins.
    told = [rate for _, rate in chief["rates"]]
    np.testing.assert_allclose(told, [0.005, 0.00125])
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 4
    assert (tmp_path / "run" / "run.jsonl").exists()
    # Those of the epoch before the last, which were the best.
    saved = keras.models.load_model(tmp_path / "model-2.keras", compile=False)
    for weight, value in zip(
        chief["weights"], saved.get_weights(), strict=True
    ):
        np.testing.assert_allclose(weight, value, atol=1e-6)


@pytest.mark.long
def test_what_is_saved_at_the_end_of_an_epoch_is_whole(strategy, tmp_path):
    kept = {}

    class Keep(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            inner = self.model.optimizer.inner_optimizer
            kept[epoch] = [v.numpy() for v in inner.variables]

    plain = asynchronous_fit.make_model()
    plain.compile(keras.optimizers.SGD(0.05, momentum=0.9), "mse")
    plain.fit(
        *asynchronous_fit.samples(),
        batch_size=8,
        shuffle=False,
        verbose=0,
        epochs=1,
    )
    fit(strategy, Keep(), epochs=2)
    expected = [v.numpy() for v in plain.optimizer.variables]
    for a, b in zip(kept[0], expected, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)


def test_averages_that_are_swapped_in_are_those_of_the_server(strategy):
    def run(model):
        swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
        samples = asynchronous_fit.samples()
        edges = []
        if isinstance(model.optimizer, tfdp.DistributedOptimizer):
            edges = [tfdp.callbacks.DataParallel()]
        return model.fit(
            *samples,
            batch_size=8,
            shuffle=False,
            verbose=0,
            epochs=3,
            validation_data=samples,
            callbacks=[*edges, swap],
        ).history["val_loss"]

    def made():
        return keras.optimizers.Adam(0.02, use_ema=True, ema_momentum=0.8)

    with strategy.scope():
        model = asynchronous_fit.make_model()
        model.compile(tfdp.DistributedOptimizer(made()), "mse")
    plain = asynchronous_fit.make_model()
    plain.compile(made(), "mse")
    np.testing.assert_allclose(run(model), run(plain), rtol=1e-5)
    for a, b in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_rate_that_is_set_after_each_batch_counts(strategy):
    class Fall(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            inner = self.model.optimizer
            inner = getattr(inner, "inner_optimizer", inner)
            inner.learning_rate = inner.learning_rate.numpy() * 0.8

    model = fit(strategy, Fall(), epochs=2)
    plain = asynchronous_fit.make_model()
    plain.compile(keras.optimizers.SGD(0.05, momentum=0.9), "mse")
    plain.fit(
        *asynchronous_fit.samples(),
        batch_size=8,
        shuffle=False,
        verbose=0,
        epochs=2,
        callbacks=[Fall()],
    )
    for a, b in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)


def test_nan_ends_the_fit(strategy):
    x, y = asynchronous_fit.samples()
    with strategy.scope():
        model = asynchronous_fit.make_model()
        model.compile(
            tfdp.DistributedOptimizer(keras.optimizers.SGD(0.05)), "mse"
        )
    history = model.fit(
        x * np.nan,
        y,
        batch_size=8,
        epochs=3,
        verbose=0,
        callbacks=[
            tfdp.callbacks.DataParallel(),
            keras.callbacks.TerminateOnNaN(),
        ],
    )
    assert history.epoch == [0]
    assert int(model.optimizer.iterations.numpy()) == 1


def test_a_whole_checkpoint_between_is_refused(strategy, tmp_path):
    path = tmp_path / "model.keras"
    checkpoint = keras.callbacks.ModelCheckpoint(path, save_freq=2)
    with pytest.raises(RuntimeError, match="the server has the slots"):
        fit(strategy, checkpoint)
    path = tmp_path / "model.weights.h5"
    fit(
        strategy,
        keras.callbacks.ModelCheckpoint(
            path, save_freq=2, save_weights_only=True
        ),
    )
    assert path.exists()


def test_a_noise_scale_is_refused(strategy):
    with pytest.raises(ValueError, match="cannot go with a NoiseScaleMonitor"):
        fit(strategy, tfdp.callbacks.NoiseScaleMonitor())


def test_adascale_is_refused(strategy):
    with pytest.raises(ValueError, match="cannot go with AdaScale"):
        fit(strategy, optimizer=tfdp.AdaScale(0.05, base_batch=8))


def test_backups_of_keras_are_refused_on_workers():
    made = [keras.callbacks.BackupAndRestore("backups")]
    with pytest.raises(RuntimeError, match="Use `tfdp.callbacks.BackupAndRe"):
        on_chief_only_apart(made)
