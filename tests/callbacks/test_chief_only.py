"""Files are written by the chief, and by no other worker."""

import csv

import keras
import numpy as np
import pytest
from places import SHARED

import tfdp

SCRIPT = SHARED / "writers.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("written")


@pytest.fixture(scope="module")
def reports(folder):
    return tfdp.testing.run_workers(SCRIPT, 2, [str(folder)], timeout=300)


@pytest.mark.multi_worker
def test_kerass_own_writers_run_on_the_chief(reports, folder):
    with (folder / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in rows] == reports[0]["loss"]
    for name in ("model.keras", "saved.keras"):
        model = keras.saving.load_model(folder / name, compile=False)
        for weight, expected in zip(
            model.get_weights(), reports[0]["weights"], strict=True
        ):
            np.testing.assert_array_equal(weight, np.float32(expected))


@pytest.mark.multi_worker
def test_the_chief_alone_gives_tensorboard_the_model(reports):
    assert [worker["models"] for worker in reports] == [1, 0]


@pytest.mark.multi_worker
def test_others_are_told_of_updates_on_the_chief_alone(reports):
    # Two epochs of four micro-batches, two of which make an update.
    assert [worker["ends of steps"] for worker in reports] == [4, 0]


@pytest.mark.multi_worker
def test_kerass_backups_are_refused_on_several_workers(reports):
    for worker in reports:
        assert "Use `tfdp.callbacks.BackupAndRestore`" in worker["refusal"]


class Hooks(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.called = set()

    def on_train_begin(self, logs=None):
        self.called.add("begin")

    def on_train_batch_end(self, batch, logs=None):
        self.called.add(batch)

    def on_epoch_end(self, epoch, logs=None):
        self.called.add(tuple(logs))


def test_on_one_worker_everything_is_passed_on(two_replicas):
    inside = Hooks()
    with two_replicas.scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile(
            tfdp.DistributedOptimizer(
                keras.optimizers.SGD(), accumulation_steps=2
            ),
            "mse",
        )
    callbacks = [
        tfdp.callbacks.DataParallel(),
        tfdp.callbacks.ChiefOnly(inside),
    ]
    x = np.zeros((8, 2), "float32")
    model.fit(x, x[:, :1], batch_size=4, verbose=0, callbacks=callbacks)
    assert inside.called == {"begin", 0, 1, ("loss",)}
    assert inside.model is model
    assert inside.params["steps"] == 2


def test_what_is_no_callback_is_refused():
    with pytest.raises(TypeError, match=r"must be a `keras.callbacks.Callb"):
        tfdp.callbacks.ChiefOnly(print)


@pytest.mark.parametrize(
    "callback",
    [
        keras.callbacks.EarlyStopping(),
        keras.callbacks.LearningRateScheduler(lambda epoch: 0.1),
        keras.callbacks.BackupAndRestore("backups"),
    ],
    ids=lambda callback: type(callback).__name__,
)
def test_what_changes_the_training_is_refused(callback):
    with pytest.raises(ValueError, match="must run on every worker"):
        tfdp.callbacks.ChiefOnly(callback)
