"""What a process notes of its states, for a timeline."""

import pytest

from tfdp.board import Board, State
from tfdp.run_log import Diary
from tfdp.throughput import Span

# Below a millisecond, and a sum with it is exact.
SHORT = 2**-11


class Clock:
    now = 10.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def board(clock):
    board = Board(None, clock=clock)
    board.keep(4.0)
    board.note(State.PAUSE)
    return board


def told(diary):
    rows = diary.take().tolist()
    assert all(row[0] == Span.STATE for row in rows)
    return [(diary.NAMES[int(row[1])], row[2], row[3]) for row in rows]


def pass_through(board, clock, *states):
    for state, seconds in states:
        words = "the vote of all workers" if state is State.WAITING else ""
        board.note(state, words)
        clock.now += seconds


def test_states_are_told_by_another_clock(board, clock):
    diary = Diary(board, lambda: 1000.0)
    pass_through(board, clock, (State.TRAINING, 2), (State.WAITING, 1))
    board.note(State.SAVING)
    assert told(diary) == [
        ("starting", 994.0, 1000.0),
        ("training", 1000.0, 1002.0),
        ("vote", 1002.0, 1003.0),
    ]
    assert told(diary) == []


def test_steps_that_are_not_told_are_one_state(board, clock):
    diary = Diary(board, clock)
    diary.take()
    diary.tells_step = False
    step = [(State.TRAINING, 1), (State.CALLBACKS, 0.5), (State.WAITING, 0.5)]
    pass_through(board, clock, *step, (State.SAVING, SHORT), *step)
    pass_through(board, clock, (State.SAVING, 3), (State.TRAINING, 1))
    board.note(State.PAUSE)
    assert told(diary) == [
        ("steps", 10.0, 14 + SHORT),
        ("saving", 14 + SHORT, 17 + SHORT),
        ("steps", 17 + SHORT, 18 + SHORT),
    ]
    clock.now += 1
    diary.tells_step = True
    board.note(State.VALIDATING)
    clock.now += 1
    board.note(State.PAUSE)
    assert told(diary) == [
        ("pause", 18 + SHORT, 19 + SHORT),
        ("validating", 19 + SHORT, 20 + SHORT),
    ]


def test_a_later_fit_has_not_started_again(board, clock):
    board.note(State.TRAINING, step=1)
    board.note(State.PAUSE)
    assert told(Diary(board, clock)) == []


def test_nothing_is_told_of_after_the_end(board, clock):
    diary = Diary(board, clock)
    diary.take()
    diary.close()
    pass_through(board, clock, (State.TRAINING, 1))
    board.note(State.PAUSE)
    assert told(diary) == []


def test_a_window_of_very_many_states_is_cut_off(board, clock):
    diary = Diary(board, clock)
    for _ in range(6000):
        pass_through(board, clock, (State.TRAINING, 1), (State.CALLBACKS, 1))
    assert len(diary.take()) == 10_000
