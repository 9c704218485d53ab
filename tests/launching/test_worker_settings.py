"""How many workers there may be, and which variables they may have."""

import math
import re
import sys
import time

import pytest

from tfdp import testing
from tfdp.launching import Launcher, WorkerGroup
from tfdp.machine import core_shares

NOTHING = [sys.executable, "-c", ""]


def group(**options):
    return WorkerGroup(NOTHING, **{"num_workers": 1, **options})


@pytest.mark.parametrize(
    "start",
    [
        lambda number: group(num_workers=number),
        lambda number: testing.run_workers("x.py", number),
    ],
    ids=["group", "run_workers"],
)
@pytest.mark.parametrize(
    ("number", "error", "words"),
    [
        (0, ValueError, "at least one worker. Received: num_workers=0"),
        (-1, ValueError, "at least one worker. Received: num_workers=-1"),
        (10**12, ValueError, "at most 1024 workers.*num_workers=10000000000"),
        (10**50, ValueError, "num_workers"),
        (1.5, TypeError, "`num_workers` must be an integer. Received: .*1.5"),
        (math.nan, TypeError, "num_workers=nan"),
        (True, TypeError, "num_workers=True"),
        ("2", TypeError, "num_workers='2'"),
    ],
)
def test_a_number_of_workers_is_one_that_a_machine_has(
    start, number, error, words
):
    began = time.monotonic()
    with pytest.raises(error, match=words):
        start(number)
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("name", ["first_index", "restart_count", "keep_lines"])
@pytest.mark.parametrize("number", [-1, math.nan, 1.5, True, "3", 10**30])
def test_numbers_of_a_group_are_counts(name, number):
    with pytest.raises((TypeError, ValueError), match=f"Received: .*{name}="):
        group(**{name: number})


def test_workers_elsewhere_are_counted_too():
    with pytest.raises(ValueError, match="at most 1024 workers"):
        group(first_index=10**12)


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf, True, "3"])
def test_seconds_are_finite(seconds):
    with pytest.raises((TypeError, ValueError), match="grace_seconds="):
        group(grace_seconds=seconds)
    with pytest.raises((TypeError, ValueError), match="timeout="):
        testing.run_workers("x.py", 1, timeout=seconds)
    with (
        group() as running,
        pytest.raises((TypeError, ValueError), match="timeout="),
    ):
        running.wait(seconds)
    with pytest.raises((TypeError, ValueError), match="timeout="):
        Launcher(group, say=print, timeout=seconds)


@pytest.mark.parametrize("number", [-1, math.nan, 1.5, True, "3"])
def test_restarts_are_counted(number):
    with pytest.raises((TypeError, ValueError), match="max_restarts="):
        Launcher(group, say=print, max_restarts=number)


@pytest.mark.parametrize("number", [0, -1, math.nan, 1.5, True, "3", 10**30])
def test_cores_are_counted(number):
    with pytest.raises((TypeError, ValueError), match="cpus_per_worker="):
        core_shares(1, number)


@pytest.mark.parametrize(
    ("env", "error", "words"),
    [
        (["A=1"], TypeError, "must be a mapping of names"),
        ({"A": 1}, TypeError, "must be texts. Received: 1 (int)"),
        ({1: "A"}, TypeError, "must be texts. Received: 1 (int)"),
        ({"": "A"}, ValueError, "Received: ''='A'"),
        ({"A=B": "1"}, ValueError, "a name without =, and no NUL"),
        ({"A": "1\0"}, ValueError, "a name without =, and no NUL"),
        ({"TF_CONFIG": "{}"}, ValueError, "TF_CONFIG is set for each worker"),
        ({"TFDP_WORKER_GROUP": "x"}, ValueError, "env={'TFDP_WORKER_GROUP"),
        ({"TFDP_RESTART_COUNT": "3"}, ValueError, "Leave it out"),
        ({"PYTHONUNBUFFERED": ""}, ValueError, "Leave it out"),
    ],
)
def test_variables_are_ones_that_workers_may_have(env, error, words):
    with pytest.raises(error, match=re.escape(words)):
        group(env=env)
    with pytest.raises(error, match=re.escape(words)):
        testing.run_workers("x.py", 1, env=env)


def test_all_variables_of_this_process_may_be_given(monkeypatch):
    monkeypatch.setenv("TFDP_RESTART_COUNT", "7")
    lines = []
    with WorkerGroup(
        [
            sys.executable,
            "-c",
            "import os; print(os.environ['TFDP_RESTART_COUNT'])",
        ],
        1,
        env={"TFDP_RESTART_COUNT": "7"},
        on_line=lambda worker, line: lines.append(line),
    ) as running:
        assert running.wait(60) is None
    assert lines == ["0"]
