"""Rows and tables: what is in them, and that they fit."""

import io

import pytest
import rich.console

from tfdp.board import Standing, State
from tfdp.cli.screen.pace import Pace
from tfdp.cli.screen.worker_row import WORDS, WorkerRow
from tfdp.cli.screen.worker_table import worker_table

ROW = WorkerRow(
    worker="0",
    state="validating",
    epoch="12",
    update="123/4560",
    rate="12,345",
    waiting="12%",
    memory="1.5 GiB",
    left="1:02:03",
    line="loss [bold]0.5[/bold] \x1b[31mred\x1b[0m \ttab " + "long " * 60,
)
HEADINGS = ["worker", "state", "epoch", "update"]
HEADINGS += ["samples/s", "waiting", "memory", "left"]


def drawn(rows, *, width, height=24):
    file = io.StringIO()
    console = rich.console.Console(
        file=file, width=width, height=height, force_terminal=False
    )
    table = worker_table(rows, "a title", width=width, height=height)
    console.print(table)
    return file.getvalue().splitlines()


def row_of(standing, *, now=20.0, memory=2**20, line="said"):
    return WorkerRow.of(1, standing, Pace(), now=now, memory=memory, line=line)


@pytest.mark.parametrize("width", range(30, 201))
def test_each_worker_has_one_line_of_any_terminal(width):
    lines = drawn([ROW] * 3, width=width)
    assert len(lines) == 5
    assert max(map(len, lines)) <= width
    assert lines[1].split()[:2] == ["worker", "state"]
    for line in lines[2:]:
        assert line.split()[:2] == ["0", "validating"]


@pytest.mark.parametrize(
    ("width", "left_out"),
    [
        (200, set()),
        (82, {"last"}),
        (70, {"last", "memory"}),
        (56, {"last", "memory", "waiting"}),
        (47, {"last", "memory", "waiting", "left"}),
        (46, {"last", "memory", "waiting", "left", "samples/s"}),
    ],
)
def test_columns_are_left_out_in_their_order(width, left_out):
    heading = drawn([ROW], width=width)[1].replace("last line", "last").split()
    assert heading == [x for x in [*HEADINGS, "last"] if x not in left_out]


def test_a_line_is_shown_as_it_was_printed_and_cut():
    line = drawn([ROW], width=120)[2]
    assert "loss [bold]0.5[/bold] red" in line
    assert line.endswith("\u2026")


@pytest.mark.parametrize("height", range(5, 30))
def test_more_workers_than_lines_are_counted(height):
    lines = drawn([ROW] * 16, width=60, height=height)
    # The cursor has one.
    assert len(lines) <= height - 1
    shown = sum("validating" in line for line in lines)
    more = f"and {16 - shown} more"
    assert (lines[-1].strip() == more) == (shown < 16)


@pytest.mark.parametrize("state", State)
def test_every_state_has_a_word(state):
    assert row_of(Standing(state=state)).state == WORDS[state]
    assert len(WORDS[state]) <= 10


def test_a_worker_without_a_board_is_starting():
    assert row_of(None) == WorkerRow(
        "1", "starting", memory="1 MiB", line="said"
    )


def test_a_worker_that_is_gone_has_ended():
    row = row_of(
        Standing(state=State.WAITING, epoch=1, update=7, waits_for="x"),
        memory=None,
    )
    assert (row.state, row.memory, row.update) == ("ended", "-", "7")
    assert row.line == "said"


def test_waiting_is_a_share_of_the_fit():
    spent = [0.0] * 16
    spent[State.STARTING], spent[State.MEETING] = 100.0, 50.0
    spent[State.TRAINING], spent[State.WAITING] = 6.0, 1.0
    standing = Standing(
        state=State.WAITING, since=19.0, spent=tuple(spent), epoch=0
    )
    assert row_of(standing).waiting == "25%"


def test_what_is_waited_for_is_told_where_it_is_long():
    standing = Standing(state=State.MEETING, waits_for="worker 2", since=18.5)
    assert row_of(standing).line == "said"
    assert row_of(standing, now=21.0).line == "waits for worker 2"
