"""What loggers of Keras's have written of a run that is resumed, is of one."""

import collections

import keras
import problem
import pytest
import tensorflow as tf
from killed import KillAt, Killed

import tfdp


def fit(folder, *more, epochs=4, **options):
    """Four batches an epoch."""
    strategy = tfdp.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model = problem.make_model()
        optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1))
        model.compile(optimizer, "mse")
    model.fit(
        problem.dataset(64, 16),
        epochs=epochs,
        verbose=0,
        callbacks=[
            tfdp.callbacks.DataParallel(),
            tfdp.callbacks.BackupAndRestore(folder / "backups", **options),
            *more,
        ],
    )


class KillAfter(keras.callbacks.Callback):
    """Ends the fit once all callbacks have seen the end of an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch:
            raise Killed


KILLS = {
    "first batch": lambda: KillAt(1, 0),
    "within an epoch": lambda: KillAt(2, 2),
    "before the backup": lambda: KillAfter(2),
}


@pytest.mark.sampled
@pytest.mark.parametrize("kill", KILLS)
@pytest.mark.parametrize("append", [False, True])
def test_each_epoch_has_one_row(tmp_path, append, kill):
    def run(folder, *more):
        folder.mkdir(exist_ok=True)
        file = folder / "log.csv"
        if append and not file.exists():
            file.write_text("epoch,loss\r\n0,an earlier run\r\n")
        rows = keras.callbacks.CSVLogger(file, append=append)
        try:
            fit(folder, rows, *more, save_freq=3)
        finally:
            # As the end of a process does.
            rows.csv_file.close()
        return file.read_bytes().decode().splitlines()

    whole = run(tmp_path / "whole")
    assert len(whole) == (6 if append else 5)
    with pytest.raises(Killed):
        run(tmp_path, KILLS[kill]())
    assert run(tmp_path) == whole


def test_a_run_that_has_reached_its_end_keeps_its_rows(tmp_path):
    def run():
        rows = keras.callbacks.CSVLogger(tmp_path / "log.csv")
        fit(tmp_path, rows, epochs=2, delete_checkpoint=False)
        return (tmp_path / "log.csv").read_text()

    assert run() == run()


@pytest.fixture
def _scalars_without_tensorboard(monkeypatch):
    """What `tf.summary.scalar` does, whose code is another package's."""

    def scalar(name, data, step):
        tf.summary.write(name, tf.cast(data, tf.float32), step=step)

    summary = keras.callbacks.TensorBoard().summary
    monkeypatch.setattr(summary, "scalar", scalar)


def steps_written(folder):
    """Values of the loss of batches, by step; the graph has no others."""
    found = collections.defaultdict(list)
    for path in sorted(folder.glob("*.tfevents.*")):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                if value.tag == "batch_loss":
                    loss = float(tf.make_ndarray(value.tensor))
                    found[event.step].append(loss)
    return dict(found)


@pytest.mark.sampled
@pytest.mark.usefixtures("_scalars_without_tensorboard")
@pytest.mark.parametrize("is_flushed", [True, False])
@pytest.mark.parametrize("place", [(1, 3), (2, 1)], ids=str)
def test_each_step_is_written_once(tmp_path, place, is_flushed):
    def run(folder, *more):
        board = keras.callbacks.TensorBoard(folder / "board", update_freq=2)
        try:
            fit(folder, board, *more, save_freq=3)
        finally:
            if is_flushed or not more:
                board._close_writers()
            else:
                # As in a process that was killed.
                lost.append((folder / "board/train").rename(folder / "gone"))
        return steps_written(folder / "board/train")

    lost = []
    whole = run(tmp_path / "whole")
    assert sorted(whole) == list(range(2, 17, 2))
    assert all(len(values) == 1 for values in whole.values())
    with pytest.raises(Killed):
        run(tmp_path, KillAt(*place))
    written = run(tmp_path)
    if is_flushed:
        assert written == whole
    else:
        first = min(written)
        assert 0 < first <= 4 * place[0] + place[1] + 1
        assert written == {s: v for s, v in whole.items() if s >= first}
