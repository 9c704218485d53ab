"""How a process tells of its own time."""

import sys
import time

import pytest

from tfdp.board import BoardFolder, State
from tfdp.board.board import Board
from tfdp.run_log.time_account import TimeAccount


def test_the_time_of_a_process_counts_from_its_begin():
    board = Board(None)
    account = TimeAccount("run.jsonl", board, wall_time=1000.0)
    start = account.start(workers=2)
    # This process has imported TensorFlow, or is about as old as that takes.
    assert 0 < 1000.0 - start["time"] < 36_000
    time.sleep(0.05)
    board.note(State.TRAINING)
    time.sleep(0.05)
    board.note(State.CALLBACKS, update=7, made=2)
    spent = account.spent()
    assert spent["attempt"] == start["attempt"]
    assert sum(spent["spent"].values()) == pytest.approx(
        spent["time"] - start["time"], abs=1e-3
    )
    assert 0.05 < spent["spent"]["training"] < 0.5
    assert (spent["update"], spent["made"]) == (7, 2)


def test_another_log_of_a_process_begins_by_itself():
    board = Board(None)
    before = TimeAccount("one.jsonl", board, wall_time=1000.0)
    board.note(State.TRAINING, update=3, made=3)
    after = TimeAccount("two.jsonl", board, wall_time=1010.0)
    assert after.start(1)["time"] == 1010.0
    board.note(State.CALLBACKS, update=4, made=1)
    spent = after.spent()
    assert spent["made"] == 1
    assert sum(spent["spent"].values()) == pytest.approx(
        spent["time"] - 1010.0, abs=1e-3
    )
    assert spent["attempt"] != before.spent()["attempt"]


def test_in_a_session_nobody_waits_for_what_was_typed(monkeypatch):
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    account = TimeAccount("run.jsonl", Board(None), wall_time=1000.0)
    assert account.start(1)["time"] == pytest.approx(1000.0, abs=1)


def test_a_launcher_is_told_of_the_log(tmp_path):
    boards = BoardFolder([0])
    board = Board(boards.begin(0)["TFDP_BOARD"])
    account = TimeAccount(tmp_path / "run.jsonl", board, wall_time=time.time())
    assert account.start(1)["attempt"] == boards.name
    assert boards.logs == [str(tmp_path / "run.jsonl")]
    boards.close()
    assert boards.logs == [str(tmp_path / "run.jsonl")]
