"""What is resumed from memory is what was left there, to the bit."""

import os
import resource
import shutil
import stat

import keras
import numpy as np
import psutil
import pytest
import tensorflow as tf
from killed import KillAt, Killed

import tfdp
from tfdp.backup import TrainingState, backups

SAMPLES, BATCH = 96, 16


class Remembers(keras.callbacks.Callback):
    """Counts the batches that it has seen."""

    def __init__(self):
        super().__init__()
        self.seen = 0

    def on_train_batch_end(self, batch, logs=None):
        self.seen += 1

    def get_state(self):
        return {"seen": self.seen, "array": np.full(3, self.seen)}

    def set_state(self, state):
        self.seen = state["seen"]


@pytest.fixture
def memory(tmp_path, monkeypatch):
    folder = tmp_path / "memory"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("TFDP_MEMORY_FOLDER", str(folder))
    return folder


def make_model():
    """In half precision, averaged, with statistics and dropout."""
    strategy = tfdp.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        keras.utils.set_random_seed(3)
        policy = keras.dtype_policies.DTypePolicy("mixed_float16")
        model = keras.Sequential(
            [
                keras.Input((8,)),
                keras.layers.Dense(16, "relu", dtype=policy),
                keras.layers.BatchNormalization(dtype=policy),
                keras.layers.Dropout(0.25),
                keras.layers.Dense(1),
            ]
        )
        optimizer = tfdp.DistributedOptimizer(
            keras.optimizers.AdamW(0.01, use_ema=True), loss_scale=2.0**40
        )
        model.compile(optimizer, "mse", metrics=["mae"])
    return model


def fit(folder, *more, model=None, epochs=3, verbose=0, **save):
    model = model or make_model()
    random = np.random.default_rng(0)
    x = random.normal(size=(SAMPLES, 8)).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((x, x[:, :1]))
    callbacks = [
        tfdp.callbacks.DataParallel(),
        tfdp.callbacks.BackupAndRestore(folder, **{"most_pause": 1, **save}),
        *more,
    ]
    history = model.fit(
        data.shuffle(SAMPLES, seed=7).batch(BATCH),
        epochs=epochs,
        verbose=verbose,
        callbacks=callbacks,
    )
    return model, history


def assert_same(model, other):
    for one, two in zip(
        [*model.variables, *model.optimizer.variables],
        [*other.variables, *other.optimizer.variables],
        strict=True,
    ):
        np.testing.assert_array_equal(one.numpy(), two.numpy(), one.path)


def others():
    return [Remembers(), keras.callbacks.EarlyStopping("loss", patience=9)]


def test_the_newest_of_both_is_resumed(tmp_path, memory, capsys):
    whole, history = fit(tmp_path / "whole", *others())
    assert int(whole.optimizer.skipped_updates.numpy()) > 0
    mine = others()
    with pytest.raises(Killed):
        fit(tmp_path / "backups", *mine, KillAt(1, 3))
    # Killed after the batch, before its update was saved.
    model, again = fit(tmp_path / "backups", *mine)
    assert (
        "Resuming at epoch 2, batch 3, from memory." in capsys.readouterr()[0]
    )
    assert_same(model, whole)
    assert again.history == history.history
    assert mine[0].seen == SAMPLES // BATCH * 3


def begin_process(monkeypatch):
    """As if this were another one, of the same launcher."""
    monkeypatch.setattr(backups, "_ended_here", set())


class Stops(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = epoch == 1


@pytest.mark.parametrize("stops", [False, True])
def test_a_program_that_falls_after_its_fit_does_not_train_again(
    tmp_path, memory, monkeypatch, stops
):
    folder = tmp_path / "backups"
    more = [Stops()] if stops else []
    whole, history = fit(folder, *others(), *more)
    assert len(history.history["loss"]) == (2 if stops else 3)
    assert not folder.exists()
    for _ in range(2):
        begin_process(monkeypatch)
        mine = others()
        model, again = fit(folder, *mine, *more)
        assert_same(model, whole)
        assert again.history == history.history
        (_,) = memory.iterdir()


@pytest.mark.long
def test_another_fit_of_a_process_begins_anew(tmp_path, memory, monkeypatch):
    folder = tmp_path / "backups"
    fit(folder, epochs=1)
    for _ in range(2):
        mine = Remembers()
        fit(folder, mine, epochs=1)
        assert mine.seen == SAMPLES // BATCH
    begin_process(monkeypatch)
    steps = []
    for seen in (0, SAMPLES // BATCH):
        # The first one was made before.
        count = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: steps.append(batch)
        )
        fit(folder, Remembers(), count, epochs=1)
        assert len(steps) == seen


def test_without_the_memory_it_is_that_on_disk(tmp_path, memory, capsys):
    whole, _ = fit(tmp_path / "whole")
    with pytest.raises(Killed):
        fit(tmp_path / "backups", KillAt(1, 3))
    # As if the machine had been started anew.
    shutil.rmtree(memory)
    memory.mkdir(mode=0o700)
    model, _ = fit(tmp_path / "backups")
    said = capsys.readouterr()[0]
    assert f"epoch 2, batch 0, from {tmp_path / 'backups'}." in said
    assert_same(model, whole)


def test_a_newer_one_on_disk_is_taken(tmp_path, memory, monkeypatch, capsys):
    with pytest.raises(Killed):
        fit(tmp_path, KillAt(0, 2), save_freq=1)
    with monkeypatch.context() as patch:
        patch.delenv("TFDP_MEMORY_FOLDER")
        with pytest.raises(Killed):
            fit(tmp_path, KillAt(1, 1), save_freq=1)
    fit(tmp_path, epochs=2)
    assert f"epoch 2, batch 1, from {tmp_path}." in capsys.readouterr()[0]


@pytest.mark.long
@pytest.mark.parametrize("off", ["no folder", "no share"])
def test_it_can_be_without(tmp_path, memory, monkeypatch, capsys, off):
    save = {"most_pause": 0} if off == "no share" else {}
    if off == "no folder":
        monkeypatch.delenv("TFDP_MEMORY_FOLDER")
    with pytest.raises(Killed):
        fit(tmp_path, KillAt(1, 3), **save)
    assert not list(memory.iterdir())
    fit(tmp_path, epochs=2, **save)
    assert f"epoch 2, batch 0, from {tmp_path}." in capsys.readouterr().out


def test_a_folder_that_is_not_there_is_told(tmp_path, memory):
    memory.rmdir()
    with pytest.warns(UserWarning, match="TFDP_MEMORY_FOLDER must name"):
        fit(tmp_path / "backups", epochs=1)


def test_little_room_is_told_once_and_training_goes_on(
    tmp_path, memory, monkeypatch
):
    class Little:
        available = 1000

    monkeypatch.setattr(psutil, "virtual_memory", Little)
    with pytest.warns(UserWarning, match="must have room there") as caught:
        _, history = fit(tmp_path / "backups")
    assert len(caught) == 1
    assert len(history.epoch) == 3


class FillDisk(keras.callbacks.Callback):
    """No file may grow any more, from a batch of the first epoch on."""

    def on_train_batch_end(self, batch, logs=None):
        if batch == 1:
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (512, hard))


@pytest.fixture
def _limits():
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("_limits")
def test_a_disk_that_fills_ends_no_training(tmp_path):
    whole, _ = fit(tmp_path / "whole")
    save = {"save_freq": 1, "delete_checkpoint": False}
    with pytest.warns(UserWarning, match="must be written") as caught:
        model, _ = fit(tmp_path / "backups", FillDisk(), **save)
    first, last = (str(warning.message) for warning in caught)
    assert "tries again when the next is due" in first
    assert "would be resumed from the one before" in last
    assert_same(model, whole)


def test_the_last_one_on_disk_needs_no_memory(tmp_path, memory):
    folder = tmp_path / "backups"
    fit(folder, epochs=1, delete_checkpoint=False)
    assert not list(memory.iterdir())
    assert list(folder.iterdir())


class TakeRights(keras.callbacks.Callback):
    """Has this process be of a user who may not write to the folder."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def on_epoch_end(self, epoch, logs=None):
        # The backup of the first epoch may have been under way.
        if epoch == 1:
            self.folder.chmod(0o500)
            os.seteuid(65534)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another")
def test_a_folder_that_becomes_read_only_ends_no_training(tmp_path):
    folder = tmp_path / "backups"
    try:
        with pytest.warns(UserWarning, match="Permission denied") as caught:
            _, history = fit(folder, TakeRights(folder))
    finally:
        os.seteuid(0)
    assert len(history.epoch) == 3
    write, delete = (str(warning.message) for warning in caught)
    assert "must be written" in write
    assert "are removed when a training has reached its end" in delete


@pytest.mark.usefixtures("_limits")
@pytest.mark.filterwarnings("ignore:A backup")
def test_where_it_cannot_be_written_the_memory_stays(tmp_path, memory):
    """It was made before the disk was full; nothing is newer."""
    folder = tmp_path / "backups"
    fit(folder, FillDisk(), epochs=1, delete_checkpoint=False)
    assert list(memory.iterdir())


def test_how_often_is_told_and_logged(tmp_path, memory, capsys):
    logger = tfdp.callbacks.RunLogger(tmp_path / "log", tensorboard=False)
    fit(tmp_path / "backups", logger, verbose=2, epochs=2)
    said = capsys.readouterr().out
    assert said.count("Backups in memory: 6, one every 1.0 updates") == 2
    lines = (tmp_path / "log" / "run.jsonl").read_text().splitlines()
    rows = [line for line in lines if '"kind": "backups"' in line]
    assert '"memory": 6, "disk": 0' in rows[0]
    assert '"memory": 12, "disk": 1' in rows[1]


@pytest.mark.parametrize("most", [-0.1, 1.5, float("nan"), "much"])
def test_a_share_that_is_none_is_refused(tmp_path, most):
    with pytest.raises((ValueError, TypeError), match="most_pause"):
        tfdp.callbacks.BackupAndRestore(tmp_path, most_pause=most)


def test_files_are_of_this_user_alone(tmp_path, memory):
    with pytest.raises(Killed):
        fit(tmp_path / "backups", KillAt(0, 3))
    modes = {stat.S_IMODE(os.stat(path).st_mode) for path in memory.iterdir()}
    assert modes == {0o600}


def test_what_is_only_looked_at_is_what_is_copied():
    """Buffers of Python know no bfloat16, and some variables are numbers."""
    strategy = tfdp.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        layer = keras.layers.Dense(3, dtype="bfloat16")
        model = keras.Sequential(
            [keras.Input((8,)), layer, keras.layers.BatchNormalization()]
        )
        model.compile(tfdp.DistributedOptimizer(keras.optimizers.Adam()), "mse")
        model.optimizer.build(model.trainable_variables)
    state = TrainingState(model, strategy)
    seen, kept = state.captured(is_kept=False), state.captured()
    assert {"float32", "int64"} <= {a.dtype.name for a in seen.values()}
    assert seen.keys() == kept.keys()
    for name, array in kept.items():
        assert array.dtype == seen[name].dtype
        np.testing.assert_array_equal(seen[name], array, name)
    some = [a for n, a in seen.items() if n.startswith("shared")]
    # Nobody may write to where a variable is.
    assert not all(array.flags.writeable for array in some)
