from tfdp.board import BoardFolder, State
from tfdp.board.board import Board
from tfdp.launch import StallWatch
from tfdp.settings import BOARD


def test_what_is_noted_while_the_launcher_looks_is_no_news(monkeypatch):
    # The signal is that of this process, for all of its tests.
    monkeypatch.setattr("tfdp.board.board.offer_stacks", lambda path: 0)
    folder, said = BoardFolder([0]), []
    board = Board(folder.begin(0)[BOARD], clock=lambda: 10.0)
    watch = StallWatch(say=said.append)
    board.note(State.TRAINING, epoch=0, update=1, made=1)
    for now in (8.0, 9.5):
        assert watch.look(now, folder) is None
    folder.close()
    assert said == []
