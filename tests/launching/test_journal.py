"""Starts, losses and ends of workers, written by their launcher."""

import json
import os
import pathlib
import sys
import time

import pytest

from tfdp.board import BoardFolder, Standing, State, layout
from tfdp.board.board import Board
from tfdp.launching import Launcher, WorkerFailure, WorkerGroup
from tfdp.launching.journal import Journal
from tfdp.report import logged_goodput

# Three updates and a half, of which each start but the last loses one.
WORKER = """
import os, signal, sys, time
from tfdp.board import State, own_board
restarts = int(os.environ["TFDP_RESTART_COUNT"])
board = own_board()
board.tell_log(sys.argv[1])
begun = 2 * restarts
for update in range(begun + 1, begun + 4):
    board.note(State.TRAINING, epoch=0)
    time.sleep(0.2)
    board.note(State.CALLBACKS, update=update, made=1)
    print("update", update, flush=True)
board.note(State.VALIDATING)
time.sleep(0.1)
board.note(State.TRAINING)
time.sleep(0.1)
if restarts < 2:
    os.kill(os.getpid(), signal.SIGKILL)
board.note(State.ENDED)
"""


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_text("")
    return path


def test_what_a_launcher_sees_adds_up(log):
    made, said = [], []
    launcher = Launcher(
        lambda count: WorkerGroup(
            [sys.executable, "-c", WORKER, str(log)],
            1,
            restart_count=count,
            on_line=lambda worker, line: made.append(int(line.split()[-1])),
        ),
        max_restarts=2,
        say=said.append,
    )
    begun = time.monotonic()
    assert launcher.run() == 0
    passed = time.monotonic() - begun
    goodput, complaints = logged_goodput(log.parent)
    assert complaints == []
    assert goodput.seconds == pytest.approx(passed, rel=0.02)
    assert goodput.made == len(made) == 9
    assert goodput.repeated == len(made) - len(set(made)) == 2
    assert (goodput.starts, goodput.losses) == (3, 2)
    assert goodput.parts["updates"] == pytest.approx(7 * 0.2, rel=0.1)
    # The step under way was lost as well.
    again = 2 * 0.2 + 2 * 0.1
    assert goodput.parts["repeating"] == pytest.approx(again, rel=0.1)
    assert goodput.parts["validation"] == pytest.approx(3 * 0.1, rel=0.1)
    assert goodput.parts["noticing"] > 0
    assert said[-1] == f"goodput: {goodput}"
    assert [row["kind"] for row in rows(log)] == [
        *("start", "loss", "exit") * 2,
        *("start", "exit"),
    ]


def test_workers_that_make_no_update_have_no_goodput():
    said = []
    launcher = Launcher(
        lambda count: WorkerGroup(["false"], 1), max_restarts=1, say=said.append
    )
    assert launcher.run() == 1
    assert not any("goodput" in each for each in said)


class Clock:
    def __init__(self):
        self.now = time.monotonic()

    def __call__(self):
        return self.now


def told(journal, clock, log=None, lost_after=None):
    """Has a worker live for ten seconds."""
    boards = BoardFolder([0])
    journal.expect()
    path = boards.begin(0)["TFDP_BOARD"]
    begin = Standing(since=clock.now, changed=clock.now)
    pathlib.Path(path).write_bytes(layout.blank(begin))
    board = Board(path, clock=clock)
    journal.begin(boards, workers=1)
    if log is not None:
        board.tell_log(str(log))
    clock.now += 4
    board.note(State.TRAINING, update=1)
    clock.now += 6
    board.note(State.ENDED, update=2, made=2)
    boards.close()
    failure = None
    if lost_after is not None:
        at = clock.now - 10 + lost_after
        failure = WorkerFailure(0, 3, None, (), lost_at=at)
    journal.end(boards, failure)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def said():
    return []


@pytest.fixture
def journal(clock, said):
    return Journal(said.append, clock=clock, wall_clock=lambda: 5000.0)


def test_what_was_before_the_log_is_written_later(journal, clock, log):
    told(journal, clock)
    assert rows(log) == []
    clock.now += 5
    told(journal, clock, log, lost_after=9)
    found = rows(log)
    assert [(row["kind"], round(row["time"])) for row in found] == [
        *[("start", 5000), ("exit", 5010)],
        *[("start", 5015), ("loss", 5024), ("exit", 5025)],
    ]
    assert found[-2]["exit_code"] == 3
    # A loss ends what is known of the time.
    assert found[-1]["spent"] == pytest.approx({"starting": 4, "training": 5})


def test_a_later_start_is_written_at_once(journal, clock, log):
    told(journal, clock, log)
    boards = BoardFolder([0])
    journal.expect()
    journal.begin(boards, workers=3)
    boards.close()
    assert rows(log)[-1]["kind"] == "start"
    assert rows(log)[-1]["workers"] == 3


def test_a_half_line_of_one_that_was_killed_is_cut(journal, clock, log):
    log.write_text('{"kind": "run"}\n{"kind": "upd')
    told(journal, clock, log)
    assert [row["kind"] for row in rows(log)] == ["run", "start", "exit"]


def test_a_log_that_cannot_be_written_is_told_once(
    journal, clock, log, said, tmp_path
):
    gone = tmp_path / "gone" / "run.jsonl"
    told(journal, clock, gone)
    told(journal, clock, gone)
    (message,) = said
    assert "a file that can be written to. Received" in message
    assert "(No such file or directory)" in message
    gone.parent.mkdir()
    gone.write_text("")
    told(journal, clock, log)
    assert rows(gone) == rows(log)
    assert len(rows(gone)) == 6


def test_launchers_without_the_chief_keep_no_account(journal):
    boards = BoardFolder([2, 3])
    journal.expect()
    journal.begin(boards, workers=2)
    boards.close()
    journal.end(boards)
    assert journal.attempts == []


def test_damage_to_what_a_worker_tells_is_passed_over(journal, clock, log):
    boards = BoardFolder([0])
    path = boards.begin(0)["TFDP_BOARD"]
    Board(path).tell_log(os.fspath(log))
    with open(f"{path}.logs", "a") as file:
        file.write('"/half a pa')
    assert boards.logs == [str(log)]
    boards.close()
