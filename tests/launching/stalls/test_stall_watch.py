from tfdp.board import BoardFolder, Standing, State
from tfdp.board.layout import blank
from tfdp.launching.stalls import StallWatch


def test_a_board_may_change_while_it_is_looked_at():
    said = []
    watch = StallWatch(5.0, say=said.append)
    boards = BoardFolder([0])
    try:
        boards.begin(0)
        standing = Standing(
            pid=1, state=State.TRAINING, epoch=0, made=5, changed=10.1
        )
        (boards.path / "worker-0").write_bytes(blank(standing))
        # The time was taken before the boards were read.
        assert watch.look(10.0, boards) is None
    finally:
        boards.close()
    assert said == []
