"""Where the time from a failure to the next update goes."""

import pytest

from tfdp.board import BoardFolder, Comeback, Standing, State
from tfdp.board.board import Board
from tfdp.settings import BOARD

SPENT = (0.25, 0.5, 0.125, *[0.0] * 13)


def standing(**others):
    given = {"update": 8, "made": 1, "state": State.TRACING, "spent": SPENT}
    return Standing(since=12.0, changed=12.75, **{**given, **others})


def test_parts_add_up_to_all_of_the_time():
    parts = Comeback(lost=9.0, noticed=10.0, ended=10.5).parts(standing())
    told = {name: seconds for name, seconds in parts.items() if seconds}
    assert told == {
        "noticing": 1.0,
        "ending": 0.5,
        "pausing": 0.625,
        "starting": 0.25,
        "meeting": 0.5,
        "preparing": 0.125,
        "tracing": 0.75,
    }
    assert sum(told.values()) == 12.75 - 9.0


@pytest.mark.parametrize("state", State)
def test_no_state_is_left_out(state):
    parts = Comeback(9.0, 9.0, 9.0).parts(standing(state=state))
    assert sum(parts.values()) == 12.75 - 9.0


def test_what_took_no_time_is_not_told():
    words = Comeback(lost=11.125, noticed=11.125, ended=11.125)
    assert words.words(standing()) == (
        "update 8 after 1.62 s: 0.25 starting, 0.50 meeting, 0.12 preparing, "
        "0.75 tracing"
    )


def test_a_folder_tells_of_the_first_update_once(monkeypatch):
    # The signal is that of this process, for all of its tests.
    monkeypatch.setattr("tfdp.board.board.offer_stacks", lambda path: 0)
    folder, heard = BoardFolder([0, 1]), []
    folder.begin(0)
    board = Board(folder.begin(1)[BOARD])
    folder.hear_first_update(heard.append)
    board.note(State.TRAINING, update=7)
    folder.look(1.0)
    assert (heard, folder.looked) == ([], 1.0)
    for update in (8, 9):
        board.note(State.CALLBACKS, update=update, made=1)
        folder.look(2.0)
    folder.close()
    assert [each.update for each in heard] == [8]
    folder.look(3.0)
