"""Workers that become fewer and more, as plain processes."""

import os
import re
import signal
import sys
import textwrap
import threading
import time

import pytest

from tfdp.elastic import ElasticGroup, ElasticLauncher, Slots

NUMBER = re.compile(r"\d+\.\d\d")
HEAD = """
import json, os, pathlib, signal, sys, time
cluster = json.loads(os.environ['TF_CONFIG'])
index, size = cluster['task']['index'], len(cluster['cluster']['worker'])
attempt = int(os.environ['TFDP_RESTART_COUNT'])
print('attempt', attempt, 'of', size, flush=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
"""


@pytest.fixture
def run(tmp_path):
    """Runs a program as elastic workers; returns code, sayings and lines."""

    def run(code, slots, **options):
        said, lines = [], []

        def start_group(restart_count, **kwargs):
            return ElasticGroup(
                [sys.executable, "-c", HEAD + textwrap.dedent(code)],
                restart_count=restart_count,
                on_line=lambda worker, line: lines.append(line),
                env={"FOLDER": str(tmp_path)},
                settle_seconds=0,
                **kwargs,
            )

        launcher = ElasticLauncher(
            start_group, slots=slots, say=said.append, **options
        )
        return launcher.run(), said, lines

    return run


def going_on(said):
    return [text for text in said if text.startswith("going on")]


def test_the_others_go_on_and_take_in_who_comes_back(run):
    code = """
    if attempt == 0 and index == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0 if attempt == 2 else 60)
    """
    slots = Slots(1, 3, rejoin_seconds=0, first_pause=1.5, forgiven=0)
    exit_code, said, lines = run(code, slots)
    assert exit_code == 0
    assert going_on(said) == [
        "going on with 2 workers, fewer",
        "going on with 3 workers, more",
    ]
    assert "restart 1 of 100" in said
    assert sorted(set(lines)) == [
        "attempt 0 of 3",
        "attempt 1 of 2",
        "attempt 2 of 3",
    ]


def test_it_says_how_long_the_next_update_took(run):
    code = """
    from tfdp.board import State, own_board
    own_board().note(State.TRAINING, update=7 + attempt)
    time.sleep(0.25)
    own_board().note(State.CALLBACKS, update=8 + attempt, made=1)
    if attempt == 0 and index == 1:
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60 if attempt < 1 or attempt == 1 and size == 2 else 0.1)
    """
    slots = Slots(1, 3, rejoin_seconds=0, first_pause=1.5, forgiven=0)
    exit_code, said, _ = run(code, slots)
    told = [text for text in said if text.startswith("update")]
    # After a fall, and after those that were left have begun anew with more.
    assert (exit_code, [text[:15] for text in told]) == (
        0,
        ["update 9 after ", "update 10 after"],
    )
    for text in told:
        numbers = [float(each) for each in NUMBER.findall(text)]
        assert numbers[0] == pytest.approx(sum(numbers[1:]), abs=0.05)
    (noticing,) = re.findall(r"([\d.]+) noticing", told[0])
    assert 0.5 < float(noticing) < 5
    assert "training" in told[1]


def test_several_that_are_killed_at_once_are_lost_at_once(run):
    code = """
    if attempt == 0 and index:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60 * (attempt == 0))
    """
    slots = Slots(1, 3, rejoin_seconds=0, first_pause=60, forgiven=0)
    exit_code, said, lines = run(code, slots)
    assert exit_code == 0
    assert "attempt 1 of 1" in lines


def test_all_wait_for_who_may_come_back(run):
    code = "sys.exit(3 * (attempt == 0 and index == 0))"
    slots = Slots(1, 2, first_pause=1.2, forgiven=0)
    begin = time.monotonic()
    exit_code, said, lines = run(code, slots)
    assert exit_code == 0
    assert time.monotonic() - begin > 1.2
    assert going_on(said) == ["going on with 2 workers in 1 s, as before"]


def test_restarts_are_used_up(run):
    slots = Slots(1, 2, first_pause=0.01, forgiven=0)
    exit_code, said, _ = run("sys.exit(5)", slots, max_restarts=2)
    assert exit_code == 5
    assert [text for text in said if "restart" in text] == [
        "restart 1 of 2",
        "restart 2 of 2",
    ]


def test_starts_that_come_to_nothing_end_the_job(run):
    slots = Slots(1, 2, first_pause=0.01)
    exit_code, said, lines = run("sys.exit(5)", slots)
    assert exit_code == 5
    assert "5 starts in a row have made no update" in said
    assert {line.split()[1] for line in lines} == set("01234")


def test_workers_that_make_no_update_are_left_alone_for_a_time():
    begin = time.monotonic()
    with ElasticGroup(
        ["sleep", "60"], 2, could_grow=lambda now: True, settle_seconds=1.5
    ) as group:
        assert group.wait(50) is None
    assert group.begins_anew
    assert 1.5 < time.monotonic() - begin < 30


def test_who_has_trained_to_the_end_does_not_begin_anew(run):
    code = """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if attempt == 0 and index == 0:
        sys.exit(3)
    time.sleep(60)
    """
    slots = Slots(1, 2, rejoin_seconds=0, first_pause=1.0, forgiven=0)
    exit_code, said, lines = run(code, slots)
    assert exit_code == 0
    assert going_on(said) == ["going on with 1 worker, fewer"]


def test_a_signal_while_all_wait_ends_the_job(run):
    def interrupts(line):
        if "60 s" in line:
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()

    slots = Slots(1, 1, first_pause=60, forgiven=0)
    said = Heard(interrupts)
    begin = time.monotonic()
    launcher = ElasticLauncher(
        lambda restart_count, **kwargs: ElasticGroup(["false"], **kwargs),
        slots=slots,
        say=said,
    )
    assert launcher.run() == 128 + signal.SIGTERM
    assert time.monotonic() - begin < 30


class Heard:
    def __init__(self, hear):
        self.hear = hear

    def __call__(self, line):
        self.hear(line)


def test_time_passes_while_all_wait():
    said = []
    launcher = ElasticLauncher(
        lambda restart_count, **kwargs: ElasticGroup(["false"], **kwargs),
        slots=Slots(1, 1, first_pause=60, forgiven=0),
        say=said.append,
        timeout=2.0,
    )
    assert launcher.run() == 124
    assert "the 2 s of all attempts have passed" in said


def test_nobody_is_ended_after_the_training():
    code = """
    from tfdp.board import State, own_board
    own_board().note(State.ENDED, made=5)
    time.sleep(2)
    """
    command = [sys.executable, "-c", HEAD + textwrap.dedent(code)]
    with ElasticGroup(
        command, 2, could_grow=lambda now: group_has_noted(), settle_seconds=0
    ) as group:

        def group_has_noted():
            return group.updates_made > 0

        assert group.wait(50) is None
    assert group.updates_made == 5
    assert not group.begins_anew
    assert [outcome.returncode for outcome in group.outcomes] == [0, 0]
