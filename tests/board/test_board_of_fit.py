import contextlib
import os
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdp
from tfdp.board import State
from tfdp.board.board_reader import BoardReader
from tfdp.launching import WorkerGroup


def read():
    return BoardReader(os.environ["TFDP_BOARD"]).read()


class Reading(keras.callbacks.Callback):
    """Reads the board where a fit is, beside the optimizer itself."""

    def __init__(self):
        super().__init__()
        self.rows, self.courses = [], []

    def row(self, where):
        found = read()
        updates = int(self.model.optimizer.iterations.numpy())
        self.rows.append(
            [where, found.state.name, found.epoch, found.update, updates]
        )
        if where == "end of a step":
            self.courses.append([found.goal, found.samples])

    def on_train_batch_begin(self, batch, logs=None):
        self.row("step")

    def on_train_batch_end(self, batch, logs=None):
        self.row("end of a step")

    def on_test_batch_begin(self, batch, logs=None):
        self.row("validation")

    def on_epoch_end(self, epoch, logs=None):
        self.row("end of an epoch")


def trained(folder):
    states = [read().state.name]
    strategy = tfdp.MultiWorkerMirroredStrategy()
    states.append(read().state.name)
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile(
            tfdp.DistributedOptimizer(
                keras.optimizers.SGD(0.1), accumulation_steps=2
            ),
            "mse",
        )
    x, y = np.ones((20, 3), "float32"), np.ones((20, 1), "float32")
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    reading = Reading()
    model.fit(
        data,
        validation_data=data,
        epochs=2,
        verbose=0,
        callbacks=[
            tfdp.callbacks.DataParallel(),
            reading,
            tfdp.callbacks.BackupAndRestore(folder),
        ],
    )
    found = read()
    states.append(found.state.name)
    spent = {state.name: found.spent[state] for state in State}
    last = [found.backup, found.step, found.epoch]
    return states, reading.rows, spent, last, reading.courses


@pytest.mark.multi_worker
def test_a_fit_notes_where_it_stands(tmp_path):
    found = tfdp.testing.run_workers(trained, 2, [str(tmp_path / "backups")])
    # Nothing was trained before.
    never = {State.ENDED.name, State.REPLAYING.name}
    for states, rows, spent, (backup, step, epoch), courses in found:
        assert states == ["STARTING", "STARTING", "ENDED"]
        # Five steps make three updates, the last one of a short cycle.
        assert (backup, step, epoch) == (3, 10, -1)
        for where, state, at, noted, updates in rows:
            assert noted == updates, where
            assert at in (0, 1)
            if where == "end of a step":
                assert state == "CALLBACKS"
            if where == "validation":
                assert state in ("VALIDATING", "TRACING")
            if where == "end of an epoch":
                assert state == "PAUSE"
        assert {row[2] for row in rows} == {0, 1}
        # Of two epochs. Samples are read at the first step of each, at least.
        assert {goal for goal, _ in courses} == {6}
        assert (courses[0][1], courses[5][1]) == (2, 12)
        been = {name for name, seconds in spent.items() if seconds}
        assert been == {state.name for state in State} - never


def test_groups_keep_what_boards_have_said_last():
    code = "from tfdp.board import State, own_board as b\nb().note(update=5)"
    with WorkerGroup([sys.executable, "-c", code], 2) as group:
        assert group.boards.path.exists()
        folder = group.boards.path
        assert group.wait(60) is None
    assert not folder.exists()
    updates = [each.update for each in group.boards.standings().values()]
    assert updates == [5, 5]


class Fall(Exception):
    """Ends a training in its middle."""


class Falling(keras.callbacks.Callback):
    def __init__(self, epoch, batch):
        super().__init__()
        self._place = epoch, batch

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self._epoch, batch) == self._place:
            raise Fall


def goals(folder):
    strategy = tfdp.auto_strategy()
    x, y = np.ones((20, 3), "float32"), np.ones((20, 1), "float32")
    known = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    unknown = known.filter(lambda x, y: True)

    def fit(data, *callbacks):
        with strategy.scope():
            model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
            model.compile(
                tfdp.DistributedOptimizer(
                    keras.optimizers.SGD(0.1), accumulation_steps=2
                ),
                "mse",
            )
        reading = Reading()
        callbacks = [tfdp.callbacks.DataParallel(), reading, *callbacks]
        with contextlib.suppress(Fall):
            model.fit(data, epochs=3, verbose=0, callbacks=callbacks)
        return [goal for goal, _ in reading.courses]

    def backups():
        return tfdp.callbacks.BackupAndRestore(folder, save_freq=1)

    return [
        fit(unknown),
        fit(known, backups(), Falling(1, 3)),
        fit(known, backups()),
    ]


@pytest.mark.multi_worker
def test_a_goal_is_known_as_soon_as_an_epoch_is(tmp_path):
    ((unknown, fallen, resumed),) = tfdp.testing.run_workers(
        goals, 1, [str(tmp_path / "backups")]
    )
    # Each epoch has five steps, and three updates.
    assert unknown == [-1] * 5 + [9] * 10
    assert fallen == [9] * 9
    # It passes over what it has trained on, of the second epoch.
    assert len(resumed) == 10
    assert resumed[-6:] == [9] * 6
    assert set(resumed) <= {-1, 9}
