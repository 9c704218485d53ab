"""Workers that go on without those that fall, as plain processes."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
import types

import psutil
import pytest

from tfdp.launching import (
    AsynchronousGroup,
    ForkServer,
    Restarts,
    WorkerGroup,
    worker_variables,
)

HEAD = """
import json, os, pathlib, signal, sys, time
index = json.loads(os.environ['TF_CONFIG'])['task']['index']
count = int(os.environ['TFDP_RESTART_COUNT'])
def wait_for(name):
    while not pathlib.Path(os.environ['FOLDER'], name).exists():
        time.sleep(0.01)
def touch(name):
    pathlib.Path(os.environ['FOLDER'], name).touch()
"""
SOON = {"first_pause": 0.05}


@pytest.fixture
def started(tmp_path):
    """Starts a group of workers that run a program, and keeps what it says."""
    groups = []

    def start(code, num_workers=2, *, most=0, **options):
        found = types.SimpleNamespace(
            lines=[[] for _ in range(num_workers)], falls=[]
        )
        found.group = AsynchronousGroup(
            [sys.executable, "-c", HEAD + textwrap.dedent(code)],
            num_workers,
            restarts=Restarts(most, **SOON),
            on_fall=found.falls.append,
            on_line=lambda worker, line: found.lines[worker].append(line),
            env={"FOLDER": str(tmp_path), **options.pop("env", {})},
            **options,
        )
        groups.append(found.group)
        return found

    yield start
    for group in groups:
        group.stop()


def wait_until(claim, seconds=60):
    deadline = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def is_gone(pid):
    try:
        return psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_others_go_on_without_one_that_falls(started):
    code = """
    if index == 1:
        print('out of data')
        sys.exit(3)
    time.sleep(1.5)
    print('done')
    """
    found = started(code, 3)
    assert found.group.wait(60) is None
    assert found.lines == [["done"], ["out of data"], ["done"]]
    (fall,) = found.falls
    assert str(fall) == (
        "Worker 1 failed with exit code 3. The others go on without it.\n"
        "Last lines of worker 1:\n  out of data"
    )
    assert found.group.lost == {1: fall}
    assert found.group.exit_code == 0
    assert found.group.remark == "1 lost (worker 1)"


def test_one_that_falls_is_started_again_as_often_as_it_may(started):
    code = """
    if index == 0:
        wait_for('end')
        wait_for('last')
    elif index == 1:
        print('life', count)
        if count < 2:
            os.kill(os.getpid(), signal.SIGKILL)
        touch('end')
    else:
        print('life', count)
        if count == 2:
            touch('last')
        sys.exit(7)
    """
    found = started(code, 3, most=2)
    assert found.group.wait(60) is None
    assert found.lines[1:] == [[f"life {i}" for i in range(3)]] * 2
    of_1 = [str(fall) for fall in found.falls if fall.worker == 1]
    assert len(of_1) == 2
    assert of_1[0].startswith("Worker 1 was killed by SIGKILL (exit code 137).")
    assert (
        "The others go on. It is started again in 0.05 s (restart 1 of 2).\n"
        in of_1[0]
    )
    assert "in 0.1 s (restart 2 of 2).\n" in of_1[1]
    # Of the life that has failed alone.
    assert of_1[1].endswith("Last lines of worker 1:\n  life 1")
    outcomes = found.group.outcomes
    codes = [(o.worker, o.returncode) for o in outcomes]
    assert codes[:4] == [(0, 0), (1, -9), (1, -9), (1, 0)]
    assert len({o.pid for o in outcomes}) == len(outcomes)


def test_losses_and_restarts_are_counted(started):
    code = """
    if index == 0:
        wait_for('end')
        time.sleep(1)
    elif index == 1:
        if count == 2:
            touch('end')
        sys.exit(7)
    elif count == 0:
        sys.exit(3)
    """
    found = started(code, 3, most=2)
    assert found.group.wait(60) is None
    assert found.group.remark == (
        "1 lost (worker 1); 3 restarts (worker 1: 2, worker 2: 1)"
    )


def test_a_lost_chief_ends_all_and_is_named(started):
    code = """
    print(os.getpid())
    touch(f'up {index}')
    if index == 0:
        wait_for('up 1')
        sys.exit('no room for weights')
    time.sleep(60)
    """
    begin = time.monotonic()
    found = started(code, most=9)
    failure = found.group.wait(60)
    assert time.monotonic() - begin < 5
    assert (failure.worker, failure.exit_code) == (0, 1)
    assert str(failure).startswith(
        "Worker 0 failed with exit code 1. It is the chief, without which "
        "nobody trains: all other workers were ended.\nLast lines of worker 0:"
    )
    assert is_gone(found.lines[1][0])
    assert found.falls == []


def test_who_falls_with_the_chief_is_not_told_as_a_fall(started):
    code = """
    touch(f'up {index}')
    if index == 0:
        wait_for('up 1')
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(1)
    """
    found = started(code, most=9)
    failure = found.group.wait(60)
    assert (failure.worker, failure.signal_name) == (0, "SIGKILL")
    assert found.falls == []


@pytest.mark.long
def test_a_stopped_chief_is_lost_and_a_stopped_worker_is_not(started):
    code = "print('up')\ntime.sleep(60)"
    found = started(code, 2)
    wait_until(lambda: all(found.lines))
    found.group.signal(1, signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        found.group.wait(5)
    assert found.falls == []
    found = started(code, 2)
    wait_until(lambda: all(found.lines))
    found.group.signal(0, signal.SIGSTOP)
    failure = found.group.wait(60)
    assert (failure.worker, failure.exit_code) == (0, 128 + signal.SIGSTOP)
    assert "has been stopped (SIGSTOP) for 3 s. It is the chief" in str(failure)


def test_an_early_end_with_success_is_fine(started):
    code = "time.sleep(1.2 * (index == 0)); print('done')"
    found = started(code, 3, most=2)
    assert found.group.wait(60) is None
    assert found.lines == [["done"]] * 3
    assert (found.falls, found.group.remark) == ([], "")


@pytest.mark.parametrize("number", [None, signal.SIGSTOP])
def test_who_runs_on_after_the_chief_is_ended(started, number):
    code = """
    print(os.getpid())
    touch(f'up {index}')
    if index == 0:
        wait_for('up 1')
        wait_for('end')
        sys.exit(0)
    time.sleep(60)
    """
    found = started(code, patience=0.6)
    wait_until(lambda: all(found.lines))
    if number:
        found.group.signal(1, number)
    folder = found.group._environments[0]["FOLDER"]
    with open(os.path.join(folder, "end"), "w"):
        begin = time.monotonic()
    assert found.group.wait(60) is None
    assert 0.6 < time.monotonic() - begin < 10
    assert is_gone(found.lines[1][0])
    assert str(found.group.lost[1]).startswith(
        "Worker 1 was killed by SIGTERM (exit code 143). It still ran 0.6 s "
        "after the chief had ended with 0, and was ended.\n"
    )
    assert found.group.outcomes[1].was_ended
    assert found.group.exit_code == 0


def test_what_a_fallen_worker_has_started_ends_with_it(started):
    code = """
    import subprocess
    if index == 0:
        wait_for('end')
    elif count == 0:
        sleep = [sys.executable, '-c', 'import time; time.sleep(60)']
        print(subprocess.Popen(sleep, env={}).pid)
        os.kill(os.getpid(), signal.SIGKILL)
    else:
        wait_for('seen')
        touch('end')
    """
    found = started(code, most=1)
    seen = []

    def look(failure):
        seen.append(is_gone(found.lines[1][0]))
        folder = found.group._environments[0]["FOLDER"]
        open(os.path.join(folder, "seen"), "w").close()

    found.group._on_fall = look
    assert found.group.wait(60) is None
    assert seen == [True]


def test_a_signal_ends_all_and_starts_nobody_again(started):
    code = """
    print('up')
    if index == 1:
        sys.exit(3)
    time.sleep(60)
    """
    found = started(code, 3, most=9)
    found.group._restarts._first = 30.0
    wait_until(lambda: all(found.lines))

    def end(failure):
        found.group.end(signal.SIGTERM)

    found.group._on_fall = end
    begin = time.monotonic()
    assert found.group.wait() is None
    assert time.monotonic() - begin < 10
    codes = [o.returncode for o in found.group.outcomes]
    assert codes == [-signal.SIGTERM, 3, -signal.SIGTERM]


def test_a_worker_that_is_to_be_started_again_is_late_too():
    with (
        AsynchronousGroup(
            ["false"],
            1,
            addresses=["a:1", "b:1"],
            first_index=1,
            restarts=Restarts(1, first_pause=60.0, longest_pause=60.0),
            env={"TFDP_JOB_SECRET": "known to all"},
        ) as group,
        pytest.raises(TimeoutError, match=r"workers \[1\] still running"),
    ):
        group.wait(2)


def test_where_the_chief_is_elsewhere_the_first_loss_counts(tmp_path):
    code = HEAD + "time.sleep(index)\nsys.exit(index + 2)"
    with AsynchronousGroup(
        [sys.executable, "-c", code],
        2,
        addresses=["a:1", "b:1", "b:2"],
        first_index=1,
        env={"TFDP_JOB_SECRET": "known to all"},
    ) as group:
        assert group.wait(60) is None
    assert (group.exit_code, sorted(group.lost)) == (3, [1, 2])


def test_workers_know_that_they_go_on_without_each_other(started, monkeypatch):
    monkeypatch.setenv("TFDP_ASYNCHRONOUS", "0")
    found = started("print(os.environ['TFDP_ASYNCHRONOUS'])")
    assert found.group.wait(60) is None
    assert found.lines == [["1"], ["1"]]
    # Not those of a group of another kind that such a worker starts.
    monkeypatch.setenv("TFDP_ASYNCHRONOUS", "1")
    lines = []
    code = "import os; print(os.environ.get('TFDP_ASYNCHRONOUS'))"
    with WorkerGroup(
        [sys.executable, "-c", code],
        1,
        on_line=lambda worker, line: lines.append(line),
    ) as group:
        assert group.wait(60) is None
    assert lines == ["None"]


def test_lives_share_a_secret_an_address_and_a_log(started, tmp_path):
    code = """
    if index == 0:
        wait_for('end')
    else:
        print(os.environ['TFDP_JOB_SECRET'], os.environ['TF_CONFIG'])
        if count == 3:
            sys.exit(1)
        touch('end')
    """
    found = started(code, most=1, restart_count=3, log_dir=tmp_path / "logs")
    assert found.group.wait(60) is None
    first, second = found.lines[1]
    assert first == second
    secret, _, config = first.partition(" ")
    assert len(secret) == 32
    assert json.loads(config)["task"] == {"type": "worker", "index": 1}
    log = (tmp_path / "logs" / "worker-1.log").read_text().splitlines()
    assert [line.split(",")[1] for line in log[::2]] == [
        " attempt 4",
        " attempt 5",
    ]


def test_a_secret_is_needed_where_some_workers_are_elsewhere(monkeypatch):
    monkeypatch.delenv("TFDP_JOB_SECRET", raising=False)
    elsewhere = {"addresses": ["a:1", "b:1"], "first_index": 1}
    words = "must know one secret. Received: TFDP_JOB_SECRET unset or empty. "
    for env in ({}, {"TFDP_JOB_SECRET": ""}):
        with pytest.raises(ValueError, match=re.escape(words)):
            AsynchronousGroup(["true"], 1, env=env, **elsewhere)


def test_lives_do_not_outlive_a_killed_parent(tmp_path):
    worker = f"""{HEAD}
import subprocess
if index == 1 and count == 0:
    sys.exit(3)
sleep = [sys.executable, '-c', 'import time; time.sleep(60)']
print(os.getpid(), subprocess.Popen(sleep, env={{}}).pid)
time.sleep(60)
"""
    parent = f"""
import sys
from tfdp.launching import AsynchronousGroup, Restarts
AsynchronousGroup(
    [sys.executable, "-u", "-c", {worker!r}],
    2,
    restarts=Restarts(1, first_pause=0.05),
    on_line=lambda worker, line: print(line, flush=True),
).wait()
"""
    command = [sys.executable, "-c", parent]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True
    ) as running:
        pids = [
            pid for _ in range(2) for pid in running.stdout.readline().split()
        ]
        assert len(pids) == 4
        running.kill()
    wait_until(lambda: all(map(is_gone, pids)))


def test_what_a_forked_worker_has_started_ends_with_it(tmp_path):
    path = tmp_path / "train.py"
    path.write_text(f"""{HEAD}
import subprocess
if index == 0:
    wait_for('end')
elif count == 0:
    sleep = [sys.executable, '-c', 'import time; time.sleep(60)']
    print(subprocess.Popen(sleep, env={{}}, start_new_session=True).pid)
    os.kill(os.getpid(), signal.SIGKILL)
else:
    touch('end')
""")
    env = {**worker_variables(), "FOLDER": str(tmp_path)}
    server = ForkServer([], env=env)
    lines, falls = [], []
    with (
        contextlib.closing(server),
        AsynchronousGroup(
            [sys.executable, "-u", str(path)],
            2,
            restarts=Restarts(1, first_pause=0.05),
            server=server,
            env={"FOLDER": str(tmp_path)},
            on_line=lambda worker, line: lines.append(line),
            on_fall=lambda failure: falls.append(is_gone(lines[0])),
        ) as group,
    ):
        assert all(p.keeper for p in group.processes.values())
        assert group.wait(60) is None
    assert falls == [True]


def test_a_listener_that_fails_ends_all(started):
    found = started("sys.exit(index)\n")

    def fail(failure):
        raise OSError("nobody reads on")

    found.group._on_fall = fail
    with pytest.raises(OSError, match="nobody reads on"):
        found.group.wait(60)


def test_a_worker_that_cannot_be_started_again_is_tried_once_more(started):
    code = """
    if index == 0:
        wait_for('end')
    elif count == 0:
        sys.exit(3)
    else:
        touch('end')
    """
    found = started(code, most=2)
    makers = found.group._makers
    make = makers[1]

    def fail(**kwargs):
        makers[1] = make
        raise OSError(11, "no more processes")

    makers[1] = fail
    assert found.group.wait(60) is None
    told = [str(fall).partition("\n")[0] for fall in found.falls]
    rule = "Worker 1 failed with exit code 3. "
    assert told == [
        f"{rule}The others go on. It is started again in 0.05 s (restart 1 of "
        "2).",
        f"{rule}It could not be started again: no more processes.",
        f"{rule}The others go on. It is started again in 0.1 s (restart 2 of "
        "2).",
    ]
    codes = [(o.worker, o.returncode) for o in found.group.outcomes]
    assert codes == [(0, 0), (1, 3), (1, 0)]
