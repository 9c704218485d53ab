import os
import pathlib
import signal
import stat
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfdp.board import BoardFolder, Standing, State, layout
from tfdp.board.board import Board
from tfdp.board.board_reader import BoardReader
from tfdp.board.stacks import handles, offer_stacks
from tfdp.settings import BOARD


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "worker-0"
    file.write_bytes(layout.blank(Standing(since=1.0, changed=1.0)))
    return str(file)


@pytest.fixture(autouse=True)
def _no_stacks(monkeypatch):
    # The signal is that of this process, for all of its tests.
    monkeypatch.setattr("tfdp.board.board.offer_stacks", lambda path: 0)


class Clock:
    now = 10.0

    def __call__(self):
        return self.now


def test_what_is_noted_is_read(path):
    clock = Clock()
    board = Board(path, clock=clock)
    board.note(State.TRAINING, epoch=2, update=36, step=72, samples=576)
    clock.now = 12.5
    board.note(State.WAITING, "the vote", backup=30, goal=90, made=2)
    found = BoardReader(path).read()
    assert found == Standing(
        pid=os.getpid(),
        state=State.WAITING,
        waits_for="the vote",
        epoch=2,
        update=36,
        made=2,
        step=72,
        samples=576,
        backup=30,
        goal=90,
        since=12.5,
        changed=12.5,
        updated=12.5,
        spent=(9.0, 0, 0, 0, 2.5, *[0.0] * 11),
        sequence=found.sequence,
    )
    assert found.is_in_fit


def test_states_share_out_the_time(path):
    clock = Clock()
    board = Board(path, clock=clock)
    for seconds, state in enumerate([*State, *State], start=1):
        board.note(state)
        clock.now += seconds
    found = BoardReader(path).read()
    spent = [found.seconds_in(state, clock.now) for state in State]
    assert sum(spent) == clock.now - 1.0
    assert spent[State.SAVING] == 9 + (9 + len(State))


def test_a_block_of_waiting_ends_in_the_state_before(path):
    board = Board(path)
    board.note(State.CALLBACKS)
    with board.waiting("the vote"), board.waiting("what all say"):
        assert BoardReader(path).read().waits_for == "the vote"
    found = BoardReader(path).read()
    assert (found.state, found.waits_for) == (State.CALLBACKS, "")


def test_what_a_block_has_moved_on_to_stays(path):
    board = Board(path)
    with board.during(State.SAVING):
        board.note(State.ENDED)
    assert BoardReader(path).read().state is State.ENDED


@pytest.mark.parametrize(
    ("state", "noted"),
    [
        (State.TRAINING, State.TRACING),
        (State.PAUSE, State.TRACING),
        (State.STARTING, State.STARTING),
        (State.ENDED, State.ENDED),
    ],
)
def test_graphs_are_noted_inside_of_a_fit(path, state, noted):
    board = Board(path)
    board.note(state)
    board.trace()
    assert BoardReader(path).read().state is noted


def test_long_words_are_cut(path):
    Board(path).note(State.WAITING, "é" * 200)
    assert BoardReader(path).read().waits_for == "é" * 64


def test_without_a_board_nothing_is_written(capsys):
    board = Board(None)
    board.note(State.TRAINING, step=1)
    board.trace()
    with board.waiting("the vote"), board.during(State.SAVING):
        pass
    assert not board.is_open
    assert capsys.readouterr().err == ""


BAD = {
    "is missing": (None, "No such file or directory"),
    "is empty": (b"", f"0 bytes instead of {layout.LENGTH}"),
    "is another": (b"x" * layout.LENGTH, "something else than a board"),
    "is of another version": (
        layout.blank(Standing()).replace(b"\2\0\0\0", b"\3\0\0\0", 1),
        "version 3 instead of 2",
    ),
    "is torn": (
        layout.blank(Standing())[:16] + b"\7" * (layout.LENGTH - 16),
        "nothing whole in it",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_is_no_board_is_told_of_once(case, tmp_path, capsys):
    content, why = BAD[case]
    file = tmp_path / "board"
    if content is not None:
        file.write_bytes(content)
    board = Board(str(file))
    for step in range(3):
        board.note(State.TRAINING, step=step)
    assert capsys.readouterr().err == (
        f"The launcher does not see where this worker stands ({why}). "
        "The training goes on all the same.\n"
    )
    assert BoardReader(str(file)).read() is None


def test_what_cannot_be_written_is_told_of_once(path, capsys):
    board = Board(path)
    for _ in range(2):
        board.note(State.TRAINING, step=2**80)
    assert capsys.readouterr().err.count("does not see where") == 1
    assert BoardReader(path).read().state is State.STARTING


def test_a_child_writes_nothing(path):
    board = Board(path)
    board.note(State.TRAINING, step=1)
    child = os.fork()
    if child == 0:
        board.note(State.TRAINING, step=2)
        os._exit(int(board.is_open))
    assert os.waitpid(child, 0)[1] == 0
    assert BoardReader(path).read().step == 1


def test_another_process_writes_nothing(path):
    Board(path).note(State.TRAINING, step=1)
    code = (
        "from tfdp.board import State, own_board\n"
        "own_board().note(State.ENDED)\n"
        "assert not own_board().is_open\n"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TFDP_BOARD": path},
        check=True,
    )
    assert BoardReader(path).read().state is State.TRAINING


def of_number(n):
    return Standing(
        pid=n,
        state=State(n % len(State)),
        waits_for=str(n),
        epoch=n,
        update=n,
        made=n,
        step=n,
        samples=n,
        backup=n,
        since=float(n),
        changed=float(n),
        updated=float(n),
        spent=(float(n),) * 16,
        sequence=n,
    )


@given(
    st.integers(1, 2**30),
    st.integers(0, layout.LENGTH),
    st.integers(0, layout.LENGTH),
)
def test_half_a_standing_is_never_read(number, begin, end):
    before, now, after = map(of_number, (number, number + 1, number + 2))
    content = bytearray(layout.blank(before))
    content[layout.place(now.sequence)] = now.packed()
    place = layout.place(after.sequence)
    written = after.packed()
    # Whichever bytes of it have come.
    part = slice(*sorted((begin, end)))
    content[place] = (
        content[place][: part.start]
        + written[part]
        + content[place][part.start :][len(written[part]) :]
    )
    assert layout.newest(bytes(content)) in (now, after)


@given(st.binary(max_size=2 * layout.LENGTH))
def test_garbage_is_no_standing(content):
    assert layout.newest(content) is None
    assert Standing.unpacked(content) is None


WRITER = """
import sys
from tfdp.board import State
from tfdp.board.board import Board
board = Board(sys.argv[1])
print("up", flush=True)
n = 0
while True:
    n += 1
    board.note(
        State(n % 10), f"{n}", epoch=n, update=n, step=n, samples=n, backup=n
    )
"""


def test_a_writer_at_full_speed_is_read_whole(path):
    reader = BoardReader(path)
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE
    ) as writer:
        writer.stdout.readline()
        last, seen = 0, set()
        while len(seen) < 500:
            found = reader.read()
            n = found.update
            if n > 0:
                assert (found.epoch, found.step, found.samples) == (n, n, n)
                assert (found.backup, found.waits_for) == (n, str(n))
                assert found.state == n % 10
                assert n >= last
                last = n
                seen.add(n)
        writer.kill()
    # Also of one that was killed in the middle of it.
    assert reader.read().update >= last


def test_the_folder_is_private_and_removed():
    folder = BoardFolder([3])
    file = pathlib.Path(folder.begin(3)[BOARD])
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    Board(str(file)).note(State.ENDED, update=7)
    folder.close()
    folder.close()
    assert not file.parent.exists()
    assert folder.standings()[3].update == 7


def test_a_worker_that_starts_again_has_a_board_of_its_own():
    folder = BoardFolder([0])
    old = Board(folder.begin(0)[BOARD])
    new = folder.begin(0)[BOARD]
    old.note(State.ENDED)
    assert folder.standings()[0].state is State.STARTING
    assert BoardReader(new).read().pid == 0
    folder.close()


def test_without_room_there_are_no_boards(monkeypatch):
    def full(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkdtemp", full)
    folder = BoardFolder([0])
    assert folder.begin(0) == {}
    assert folder.stacks_file(0) is None
    assert folder.standings() == {0: None}
    folder.close()


def test_a_board_that_cannot_be_made_is_none(monkeypatch):
    folder = BoardFolder([0])

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    assert folder.begin(0) == {}
    folder.close()


OFFER = """
import signal, sys, time
from tfdp.board.stacks import handles, offer_stacks
from tfdp.settings import BOARD
{before}
number = offer_stacks(sys.argv[1])
def nap():
    signal.raise_signal({raised})
nap()
print(number)
"""


def offered(tmp_path, before="", raised="number"):
    file = tmp_path / "stacks"
    code = OFFER.format(before=before, raised=raised)
    result = subprocess.run(
        [sys.executable, "-c", code, file],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(result.stdout), file.read_text() if file.exists() else ""


def test_a_signal_writes_down_the_stacks(tmp_path):
    number, stacks = offered(tmp_path)
    assert number == signal.SIGRTMIN + 9
    assert "in nap" in stacks


@pytest.mark.parametrize("handler", ["lambda *_: None", "signal.SIG_IGN"])
def test_a_handler_of_the_programs_own_stays(tmp_path, handler):
    before = f"signal.signal(signal.SIGRTMIN + 9, {handler})"
    assert offered(tmp_path, before, "signal.SIGRTMIN + 9") == (0, "")


def test_a_handler_that_is_not_pythons_stays(tmp_path):
    before = (
        "import faulthandler\n"
        "faulthandler.register(signal.SIGRTMIN + 9, open('/dev/null', 'w'))"
    )
    assert offered(tmp_path, before, "signal.SIGRTMIN + 9") == (0, "")


def test_stacks_that_cannot_be_written_are_not_offered(tmp_path):
    assert offer_stacks(str(tmp_path / "no" / "folder")) == 0


def test_who_is_gone_handles_nothing():
    assert handles(2**22 + 1, signal.SIGINT) is None


def test_the_updates_of_a_folder_are_those_of_who_has_made_the_most():
    folder = BoardFolder([0, 1, 2])
    assert folder.updates_made == 0
    for worker, made in ((0, 2), (1, 3)):
        board = Board(folder.begin(worker)[BOARD])
        board.note(State.TRAINING, made=made)
    assert folder.updates_made == 3
    folder.close()
    assert folder.updates_made == 3


def test_a_board_without_a_file_may_be_kept_in_memory():
    clock = Clock()
    board = Board(None, clock=clock)
    assert board.standing is None
    board.keep(begun=clock.now - 3)
    board.note(State.TRAINING, update=5, made=2)
    clock.now += 2
    assert board.is_open
    assert board.name == ""
    found = board.standing
    assert (found.state, found.update, found.made) == (State.TRAINING, 5, 2)
    spent = found.seconds_until(clock.now)
    assert spent == {"starting": 3.0, "training": 2.0}
    board.keep(begun=0.0)
    assert board.standing == found
    board.tell_log("run.jsonl")


def test_a_board_with_a_file_is_not_kept_elsewhere(path):
    board = Board(path)
    board.keep(begun=0.0)
    board.note(State.TRAINING, step=7)
    assert BoardReader(path).read().step == 7
    assert board.name == pathlib.Path(path).parent.name


@pytest.mark.parametrize("stop", [0.5, 3.0, 6.0, 7.5, 10.0, 20.0])
def test_what_is_after_a_moment_is_left_out(stop):
    spent = [0.0] * 16
    spent[State.STARTING], spent[State.TRAINING] = 3.0, 2.0
    spent[State.WAITING] = 4.0
    standing = Standing(state=State.CALLBACKS, since=9.0, spent=tuple(spent))
    assert standing.begun == 0.0
    found = standing.seconds_until(stop)
    assert sum(found.values()) == pytest.approx(stop)
    assert min(found.values()) > 0
    if 5 <= stop <= 9:
        # Whoever waits for one that is lost has done all else before.
        assert found.get("waiting", 0.0) == stop - 5
    if stop > 9:
        assert found["callbacks"] == stop - 9


@pytest.mark.parametrize("state", State)
def test_a_step_is_under_way_from_its_begin(state):
    standing = Standing(state=state, since=9.0)
    steps = (State.TRAINING, State.FIRST_STEP)
    assert standing.unfinished_at(11.0) == (2.0 if state in steps else 0.0)
    assert standing.unfinished_at(8.0) == 0.0
