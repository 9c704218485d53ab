"""What a terminal shows of workers, and how it is left."""

import os
import re
import signal
import subprocess
import sys

import pytest
from places import ROOT
from terminal import Terminal

NOTING = ROOT / "tests" / "shared" / "noting.py"
LAUNCH = [sys.executable, "-m", "tfdp.cli", "launch"]
TRAINS = (
    "TRAINING:epoch=1,update=36,goal=90,step=37",
    "CALLBACKS:made=1,samples=640",
)
START_UP = (
    "WARNING: All log messages before absl::InitializeLog() is called are "
    "written to STDERR"
)


def rows(terminal):
    """The table, by the column's heading, of each worker."""
    shown = terminal.shown
    (heading,) = (i for i, x in enumerate(shown) if x.startswith("worker  st"))
    names = shown[heading].split()
    return [
        dict(zip(names, line.split(maxsplit=len(names) - 1), strict=False))
        for line in shown[heading + 1 :]
        if re.match(r" +\d+  ", line)
    ]


def shows(terminal, text):
    return any(text in line for line in terminal.shown)


def test_lines_scroll_above_a_table_of_the_workers(tmp_path):
    orders = ["print:begins", *TRAINS, "sleep:1", "print:\x1b[31mred\x1b[0m"]
    with Terminal(
        [
            *(*LAUNCH, "--workers=2", f"--log-dir={tmp_path}", NOTING),
            *(*orders, f"print:{START_UP}", "sleep:2", "print:ends"),
        ]
    ) as terminal:
        terminal.wait_for(lambda: shows(terminal, "red"))
        terminal.wait_for(lambda: len(rows(terminal)) == 2)
        first, second = rows(terminal)
        assert (first["worker"], second["worker"]) == ("0", "1")
        for row in (first, second):
            assert row["state"] == "training"
            assert row["epoch"] == "2"
            assert row["update"] == "36/90"
            assert re.fullmatch(r"\d+%", row["waiting"])
        assert "2 workers" in terminal.raw
        assert not shows(terminal, "ends")
        assert not terminal.shows_cursor
        assert terminal.exit_code() == 0
        assert terminal.shows_cursor
        assert terminal.is_as_before
        lines = [x for x in terminal.history if x.startswith("[worker")]
        assert sorted(lines) == sorted(
            f"[worker {worker}] {text}"
            for worker in (0, 1)
            for text in ("begins", "red", "ends")
        )
        # One table is left, below all lines, with what the workers were last.
        headings = [x for x in terminal.history if x.startswith("worker  ")]
        assert len(headings) == 1
        assert [row["state"] for row in rows(terminal)] == ["ended", "ended"]
        assert re.search(r"2 workers ended after \d+ s", terminal.raw)
    assert START_UP in (tmp_path / "worker-0.log").read_text()


def test_states_are_shown_as_they_come():
    orders = [
        "sleep:0.6",
        "MEETING:waits=worker 1",
        "sleep:2.6",
        "TRACING:epoch=0",
    ]
    orders += ["sleep:0.6", "WAITING:", "sleep:0.6", "SAVING:", "sleep:0.6"]
    orders += ["VALIDATING:", "sleep:0.6", "ENDED:epoch=-1", "sleep:0.6"]
    with Terminal([*LAUNCH, "--workers=1", NOTING, *orders]) as terminal:
        for state in ("meeting", "tracing", "waiting", "saving", "validating"):
            terminal.wait_for(lambda s=state: shows(terminal, f" 0  {s} "))
            if state == "meeting":
                told = "waits for worker 1"
                terminal.wait_for(lambda t=told: shows(terminal, t))
        assert terminal.exit_code() == 0


@pytest.mark.parametrize(
    ("columns", "lines"),
    [
        (40, 8),
        *(
            pytest.param(*size, marks=pytest.mark.long)
            for size in [(40, 24), (79, 24), (200, 24)]
        ),
    ],
)
def test_sixteen_workers_fit_into_any_terminal(columns, lines):
    orders = [*TRAINS, "print:" + "long " * 60, "sleep:3"]
    command = [*LAUNCH, "--workers=16", NOTING, *orders]
    with Terminal(command, columns=columns, lines=lines) as terminal:
        room = min(16, lines - 3)
        shown = 16 if room == 16 else room - 1
        terminal.wait_for(
            lambda: (
                any(x.startswith("worker") for x in terminal.shown)
                and [row["state"] for row in rows(terminal)]
                == ["training"] * shown
            )
        )
        assert shows(terminal, f"and {16 - shown} more") == (shown < 16)
        assert shows(terminal, "16 workers")
        # Nothing of the table is left behind while it is drawn again.
        assert terminal.exit_code() == 0
        headings = [x for x in terminal.history if x.startswith("worker  ")]
        assert len(headings) == 1


def test_an_interruption_leaves_the_terminal_as_it_was():
    orders = ["print:begins", *TRAINS, "sleep:600"]
    with Terminal([*LAUNCH, "--workers=2", NOTING, *orders]) as terminal:
        terminal.wait_for(lambda: terminal.raw.count("begins") >= 2)
        assert not terminal.shows_cursor
        terminal.type("\x03")
        assert terminal.exit_code() == 128 + signal.SIGINT
        assert terminal.shows_cursor
        assert terminal.is_as_before
        assert shows(terminal, "SIGINT: the workers are told")


def test_a_failure_is_told_above_the_table_and_workers_start_again():
    orders = ["print:out of data", *TRAINS, "sleep:1", "fail:3"]
    command = [*LAUNCH, "--workers=2", "--max-restarts=1", NOTING, *orders]
    with Terminal(command) as terminal:
        assert terminal.exit_code() == 3
        history = terminal.history
        assert sum("failed with exit code 3" in x for x in history) == 2
        assert "restart 1 of 1" in history
        headings = [x for x in history if x.startswith("worker  state")]
        assert len(headings) == 1


def test_many_lines_are_all_shown(tmp_path):
    code = "for i in range(5000): print('line', i)"
    path = tmp_path / "printing.py"
    path.write_text(code)
    with Terminal([*LAUNCH, "--workers=1", path]) as terminal:
        assert terminal.exit_code() == 0
        told = [x for x in terminal.history if x.startswith("[worker 0] line")]
        assert told == [f"[worker 0] line {i}" for i in range(5000)]


@pytest.mark.parametrize(
    ("options", "variables"),
    [
        (["--plain"], {}),
        ([], {"CI": "true"}),
        ([], {"TERM": "dumb"}),
        ([], {"JPY_PARENT_PID": "1"}),
    ],
)
def test_lines_alone_are_printed_where_nobody_wants_a_table(options, variables):
    command = [*LAUNCH, *options, "--workers=1", NOTING, "print:hello"]
    with Terminal(command, **variables) as terminal:
        assert terminal.exit_code() == 0
        assert "[worker 0] " in terminal.raw
        assert not shows(terminal, "state")
        # Colors, and nothing that moves the cursor.
        assert set(re.findall(r"\x1b\[[\d;]*(.)", terminal.raw)) <= {"m"}


def test_what_the_launcher_says_goes_where_errors_go(tmp_path):
    with Terminal(
        [
            *("sh", "-c", 'exec "$@" 2>"$0"', tmp_path / "errors"),
            *(*LAUNCH, "--workers=1", NOTING, "print:hello", "sleep:0.5"),
        ]
    ) as terminal:
        assert terminal.exit_code() == 0
        assert shows(terminal, "[worker 0] hello")
        assert shows(terminal, "1 worker ·")
        assert "ended after" not in terminal.raw
    assert "1 worker ended after" in (tmp_path / "errors").read_text()


def test_without_a_terminal_nothing_moves_the_cursor():
    result = subprocess.run(
        [*LAUNCH, "--workers=1", NOTING, "print:hello"],
        env={**os.environ, "TERM": "xterm", "FORCE_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert result.stdout == "[worker 0] hello\n"
