import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import types

import psutil
import pytest

from tfdp.launching import worker_group as workers
from tfdp.launching.worker_group import WorkerGroup
from tfdp.machine.allocator import tunables

INDEX = "import json, os; index = json.loads(os.environ['TF_CONFIG'])"
INDEX += "['task']['index']\n"


def run(code, num_workers=2, *, timeout=120, **options):
    """Runs `code` as workers, with `index` defined."""
    command = [sys.executable, "-c", INDEX + textwrap.dedent(code)]
    lines = [[] for _ in range(num_workers)]
    options.setdefault("on_line", lambda w, line: lines[w].append(line))
    with WorkerGroup(command, num_workers, **options) as group:
        failure = group.wait(timeout)
    return types.SimpleNamespace(failure=failure, lines=lines)


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


@pytest.fixture(autouse=True)
def leaves_no_child():
    before = set(psutil.Process().children(recursive=True))
    yield
    assert set(psutil.Process().children(recursive=True)) <= before


def test_workers_are_told_of_each_other():
    result = run("print(os.environ['TF_CONFIG'])", 3)
    configs = [json.loads(line) for (line,) in result.lines]
    addresses = configs[0]["cluster"]["worker"]
    assert len(set(addresses)) == 3
    for i, config in enumerate(configs):
        assert config["cluster"] == {"worker": addresses}
        assert config["task"] == {"type": "worker", "index": i}
    for address in addresses:
        host, port = address.split(":")
        assert host == "127.0.0.1"
        with socket.socket() as free:
            free.bind((host, int(port)))


def test_environment_is_inherited_then_overridden(monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    monkeypatch.setenv("KEPT", "kept")
    monkeypatch.setenv("CHANGED", "before")
    names = ["KEPT", "CHANGED", "TF_CPP_MIN_LOG_LEVEL", "PYTHONUNBUFFERED"]
    result = run(
        f"print(*[os.environ[n] for n in {names}])", 1, env={"CHANGED": "after"}
    )
    assert result.lines == [["kept after 2 1"]]


@pytest.mark.parametrize(
    ("name", "default"), [("TF_CPP_MIN_LOG_LEVEL", "2"), *tunables().items()]
)
def test_variables_that_are_set_are_kept(monkeypatch, name, default):
    program = f"print(os.environ[{name!r}])"
    monkeypatch.delenv(name, raising=False)
    assert run(program, 1).lines == [[default]]
    monkeypatch.setenv(name, "0")
    assert run(program, 1).lines == [["0"]]


def test_workers_have_no_input():
    assert run("import sys; print(repr(sys.stdin.read()))", 1).lines == [["''"]]


def test_output_of_both_streams_is_split_at_line_ends_and_returns():
    code = r"""
    os.write(1, b'first\rsecond\r\nthird\n')
    os.write(2, b'fourth\xff\n')
    os.write(1, b'no end')
    """
    lines = ["first", "second", "third", "fourth\ufffd", "no end"]
    assert run(code, 1).lines == [lines]


def test_lines_arrive_while_the_worker_runs():
    times = []
    code = "import time; print('first'); time.sleep(0.5); print('second')"
    run(code, 1, on_line=lambda worker, line: times.append(time.monotonic()))
    assert times[1] - times[0] > 0.3


def test_much_output_passes_without_deadlock():
    code = "print('x' * 1_000_000); print('y' * 99 + '\\n', end='')\n"
    code += "for _ in range(10_000): print('z' * 99)"
    for lines in run(code, 2).lines:
        assert sum(map(len, lines)) == 1_000_000 + 10_001 * 99


def test_worker_that_ends_early_with_success_is_waited_for_no_more():
    result = run("import time; time.sleep(0.3 * index); print('done')", 2)
    assert result.failure is None
    assert result.lines == [["done"], ["done"]]


def test_first_failure_ends_the_others_and_is_told():
    code = """
    import sys, time
    for i in range(30): print('line', i)
    if index == 1:
        sys.exit(3)
    print(os.getpid())
    time.sleep(60)
    """
    start = time.monotonic()
    result = run(code, 3)
    assert time.monotonic() - start < 5
    failure = result.failure
    assert (failure.worker, failure.exit_code) == (1, 3)
    assert failure.signal_name is None
    assert failure.last_lines == tuple(f"line {i}" for i in range(10, 30))
    assert str(failure).startswith(
        "Worker 1 failed with exit code 3. All other workers were ended.\n"
        "Last lines of worker 1:\n  line 10\n  line 11\n"
    )
    for other in (0, 2):
        assert all(is_gone(line) for line in result.lines[other][30:])


@pytest.mark.parametrize(
    ("number", "name"),
    [(signal.SIGSEGV, "SIGSEGV"), (signal.SIGRTMIN + 6, "signal 40")],
)
def test_death_by_signal_is_told_as_shells_do(number, name):
    failure = run(f"os.kill(os.getpid(), {int(number)})", 1).failure
    assert failure.exit_code == 128 + number
    assert failure.signal_name == name
    assert str(failure) == (
        f"Worker 0 was killed by {name} (exit code {128 + number}). "
        "All other workers were ended.\nWorker 0 printed nothing."
    )


def ended_together(code, num_workers):
    """Runs `code`; first looks at the workers when all have ended."""
    command = [sys.executable, "-c", f"{INDEX}print(os.getpid())\n{code}"]
    pids = {}
    with WorkerGroup(command, num_workers, on_line=pids.__setitem__) as group:
        wait_until(lambda: len(pids) == num_workers)
        wait_until(lambda: all(map(is_gone, pids.values())))
        return group.wait()


def test_killed_worker_is_blamed_before_one_that_exits():
    code = "os.kill(os.getpid(), 9) if index == 2 else os._exit(1)"
    failure = ended_together(code, 3)
    assert (failure.worker, failure.signal_name) == (2, "SIGKILL")


def test_lowest_index_is_blamed_among_equals():
    failure = ended_together("os._exit(index)", 3)
    assert (failure.worker, failure.exit_code) == (1, 1)


FAIL_WHEN_READY = """
import pathlib, signal, sys, time
ready = pathlib.Path(os.environ['READY'])
if index == 1:
    while not ready.exists():
        time.sleep(0.01)
    sys.exit(1)
"""


def test_worker_may_end_by_itself_when_told_to(tmp_path):
    code = """
    def save(*_):
        print('saved')
        sys.exit(0)
    signal.signal(signal.SIGTERM, save)
    ready.touch()
    time.sleep(60)
    """
    code = FAIL_WHEN_READY + textwrap.dedent(code)
    result = run(code, 2, env={"READY": str(tmp_path / "ready")})
    assert result.lines[0] == ["saved"]
    assert result.failure.worker == 1


def test_worker_that_ignores_sigterm_is_killed_after_the_grace_period(tmp_path):
    code = """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(os.getpid())
    ready.touch()
    time.sleep(60)
    """
    code = FAIL_WHEN_READY + textwrap.dedent(code)
    env = {"READY": str(tmp_path / "ready")}
    start = time.monotonic()
    result = run(code, 2, env=env, grace_seconds=0.4)
    assert 0.4 < time.monotonic() - start < 5
    assert is_gone(result.lines[0][0])


GRANDCHILDREN = """
    import subprocess, sys, time
    sleep = [sys.executable, '-c', 'import time; time.sleep(60)']
    for options in [
        {},
        {'env': {}},
        {'process_group': 0, 'env': {}},
        {'start_new_session': True},
    ]:
        print(subprocess.Popen(sleep, **options).pid)
"""


@pytest.mark.parametrize("end", ["", "sys.exit(1)", "os.kill(os.getpid(), 9)"])
def test_grandchildren_do_not_outlive_the_workers(end):
    result = run(textwrap.dedent(GRANDCHILDREN) + end, 1)
    assert bool(result.failure) == bool(end)
    (pids,) = result.lines
    assert len(pids) == 4
    assert all(map(is_gone, pids))


def test_timeout_ends_the_workers_and_tells_what_they_did():
    code = """
    import time
    print(os.getpid())
    if index == 1:
        time.sleep(60)
    """
    pids = {}
    with pytest.raises(TimeoutError) as caught:
        run(code, 2, timeout=1.5, on_line=pids.__setitem__)
    message = str(caught.value)
    assert "timeout=1.5 seconds" in message
    assert "workers [1] still running; they were ended" in message
    for worker in (0, 1):
        assert f"of worker {worker}:\n  {pids[worker]}" in message
        assert is_gone(pids[worker])


def test_error_of_the_listener_is_raised_and_ends_the_workers():
    pids = []

    def fail(worker, line):
        pids.append(line)
        raise OSError("the log is full")

    code = """
    import time
    print(os.getpid())
    print('x' * 1_000_000)
    time.sleep(60)
    """
    with pytest.raises(OSError, match="the log is full"):
        run(code, 1, on_line=fail)
    assert len(pids) == 1
    assert is_gone(pids[0])


def test_group_needs_a_worker():
    with pytest.raises(ValueError, match=r"num_workers=0\. Use 1"):
        WorkerGroup(["true"], 0)


def test_unknown_command_leaves_nothing_behind():
    with pytest.raises(FileNotFoundError):
        WorkerGroup(["no such program"], 2)


def test_stop_may_be_called_twice():
    group = WorkerGroup(["sleep", "60"], 2)
    group.stop()
    group.stop()


def test_output_needs_no_listener():
    with WorkerGroup(["echo", "hello"], 1) as group:
        assert group.wait() is None


def test_workers_do_not_outlive_a_killed_parent():
    ignore = "import os, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    worker = textwrap.dedent(GRANDCHILDREN) + "print(os.getpid())"
    worker = f"{ignore}\n{worker}\ntime.sleep(60)"
    code = f"""
    import sys
    from tfdp.launching.worker_group import WorkerGroup
    command = [sys.executable, '-u', '-c', {worker!r}]
    WorkerGroup(command, 2, on_line=lambda w, line: print(line)).wait()
    """
    command = [sys.executable, "-u", "-c", textwrap.dedent(code)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        pids = [parent.stdout.readline() for _ in range(10)]
        parent.kill()
    wait_until(lambda: all(map(is_gone, pids)))


def test_nested_groups_end_with_the_outer_one():
    sleeper = [
        sys.executable,
        "-c",
        "import os, time; print(os.getpid()); time.sleep(60)",
    ]
    code = f"""
    from tfdp.launching.worker_group import WorkerGroup
    WorkerGroup({sleeper}, 2, on_line=lambda w, line: print(line)).wait()
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    lines = []

    def pids():
        # TensorFlow, which comes with tfdp, prints lines of its own.
        return [line for line in lines if line.isdecimal()]

    with WorkerGroup(command, 1, on_line=lambda w, line: lines.append(line)):
        wait_until(lambda: len(pids()) == 2)
    wait_until(lambda: all(map(is_gone, pids())))


def test_workers_of_several_machines_are_told_of_each_other():
    lines = {}
    addresses = ["a:1", "a:2", "b:1", "b:2"]
    code = "print(os.environ['TF_CONFIG'])"
    with WorkerGroup(
        [sys.executable, "-c", INDEX + code],
        2,
        addresses=addresses,
        first_index=2,
        on_line=lines.__setitem__,
    ) as group:
        assert group.pids.keys() == {2, 3}
        assert group.wait(60) is None
    assert lines.keys() == {2, 3}
    for worker, line in lines.items():
        assert json.loads(line) == {
            "cluster": {"worker": addresses},
            "task": {"type": "worker", "index": worker},
        }


def test_worker_of_several_machines_is_blamed_by_its_index_among_all():
    command = [sys.executable, "-c", "import sys; sys.exit(3)"]
    addresses = ["a:1", "b:1"]
    with WorkerGroup(command, 1, addresses=addresses, first_index=1) as group:
        failure = group.wait(60)
    assert (failure.worker, failure.exit_code) == (1, 3)


def test_addresses_are_as_many_as_workers():
    with pytest.raises(ValueError, match="index=2, with 2 worker address"):
        WorkerGroup(["true"], 2, addresses=["a:1", "b:1"], first_index=1)


@pytest.mark.skipif(
    len(getattr(os, "sched_getaffinity", lambda _: "")(0)) < 2,
    reason="needs two cores",
)
def test_worker_stays_on_cores_of_its_own():
    names = ["TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"]
    code = f"""
    cores = sorted(os.sched_getaffinity(0))
    print(json.dumps([cores, *[os.environ.get(n) for n in {names}]]))
    """
    before = os.sched_getaffinity(0)
    lines = run(code, 2, cpus_per_worker=1, env={names[1]: "7"}).lines
    (first, *threads), (second, *others) = (json.loads(x) for (x,) in lines)
    assert [len(first), len(second)] == [1, 1]
    assert set(first) | set(second) <= before
    assert first != second
    # A variable that was asked for goes before.
    assert threads == others == ["1", "7"]
    assert os.sched_getaffinity(0) == before


def test_too_few_cores_start_nothing():
    with pytest.raises(ValueError, match="cpus_per_worker=100000"):
        WorkerGroup(["true"], 1, cpus_per_worker=100_000)


def test_workers_see_how_often_they_were_started_again():
    code = "print(os.environ['TFDP_RESTART_COUNT'])"
    assert run(code, 1).lines == [["0"]]
    assert run(code, 1, restart_count=3).lines == [["3"]]


def test_logs_are_added_to_and_name_the_attempt(tmp_path):
    folder = tmp_path / "new" / "logs"
    for count in (0, 1):
        code = "print('é', index)"
        run(code, 2, log_dir=folder, restart_count=count)
    assert {path.name for path in folder.iterdir()} == {
        "worker-0.log",
        "worker-1.log",
    }
    text = (folder / "worker-1.log").read_text(encoding="utf-8")
    moment = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    assert re.fullmatch(
        rf"=== worker 1, attempt 1, {moment} ===\né 1\n"
        rf"=== worker 1, attempt 2, {moment} ===\né 1\n",
        text,
    )


def test_log_is_written_on_where_the_listener_fails(tmp_path):
    def fail(worker, line):
        raise OSError("the terminal is gone")

    code = """
    import signal, time
    def save(*_):
        print('saved')
        os._exit(0)
    signal.signal(signal.SIGTERM, save)
    print('ready')
    time.sleep(60)
    """
    with pytest.raises(OSError, match="the terminal is gone"):
        run(code, 1, on_line=fail, log_dir=tmp_path)
    log = (tmp_path / "worker-0.log").read_text()
    assert log.splitlines()[1:] == ["ready", "saved"]


def test_logs_need_a_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="must be a folder"):
        WorkerGroup(["true"], 1, log_dir=tmp_path / "file")


SLEEPER = [sys.executable, "-c", "import time; print('up'); time.sleep(60)"]


def sleepers(count, **options):
    """A group of `count` workers that are up and sleep."""
    lines = []
    options["on_line"] = lambda worker, line: lines.append(line)
    group = WorkerGroup(SLEEPER, count, **options)
    wait_until(lambda: len(lines) == count)
    return group


def test_signal_reaches_one_worker():
    with sleepers(2) as group:
        group.signal(1, signal.SIGUSR1)
        failure = group.wait(60)
    assert (failure.worker, failure.signal_name) == (1, "SIGUSR1")


def test_signal_needs_a_worker_of_the_group():
    with WorkerGroup(["true"], 2) as group:
        with pytest.raises(ValueError, match=r"worker=2\. Use one of \[0, 1\]"):
            group.signal(2, signal.SIGTERM)
        assert group.wait(60) is None
        # One that has ended hears nothing.
        group.signal(0, signal.SIGTERM)


def test_stopped_worker_is_a_failure():
    with sleepers(2) as group:
        group.signal(1, signal.SIGSTOP)
        start = time.monotonic()
        failure = group.wait(60)
        assert 2.9 < time.monotonic() - start < 10
        assert all(map(is_gone, group.pids.values()))
    assert (failure.worker, failure.exit_code) == (1, 128 + signal.SIGSTOP)
    assert str(failure).startswith(
        "Worker 1 has been stopped (SIGSTOP) for 3 s. All other workers were "
    )


def test_killed_worker_is_blamed_before_one_that_misses_it_first(tmp_path):
    code = """
    import time
    from pathlib import Path
    print('up')
    if index == 0:
        while not Path(os.environ['GO']).exists(): time.sleep(0.01)
        os._exit(1)
    time.sleep(60)
    """
    lines = []
    with WorkerGroup(
        [sys.executable, "-c", INDEX + textwrap.dedent(code)],
        2,
        env={"GO": str(tmp_path / "go")},
        on_line=lambda worker, line: lines.append(line),
    ) as group:
        wait_until(lambda: len(lines) == 2)
        (tmp_path / "go").touch()
        wait_until(lambda: is_gone(group.pids[0]))
        threading.Timer(0.1, group.signal, [1, signal.SIGKILL]).start()
        failure = group.wait(60)
    assert (failure.worker, failure.signal_name) == (1, "SIGKILL")


@pytest.mark.parametrize(
    ("counts", "remark"),
    [
        ([4, 4], "Out of memory is the usual cause of a SIGKILL that nobody"),
        ([4, 5], "The kernel's out-of-memory killer has ended a process"),
    ],
)
def test_killed_worker_makes_one_think_of_memory(monkeypatch, counts, remark):
    monkeypatch.setattr(workers, "oom_kills", iter(counts).__next__)
    failure = run("os.kill(os.getpid(), 9)", 1).failure
    assert f"SIGKILL (exit code 137). {remark}" in str(failure)


ENDS = """
import signal, sys, time
def end(number, frame):
    if index == 1:
        print(number)
        sys.exit(5)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, end)
print('up')
while True: time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workers_have_the_grace_period_to_end(number):
    lines = []
    with WorkerGroup(
        [sys.executable, "-c", INDEX + ENDS],
        2,
        on_line=lambda worker, line: lines.append(line),
        grace_seconds=0.7,
    ) as group:
        wait_until(lambda: len(lines) == 2)
        start = time.monotonic()
        group.end(number)
        assert group.wait() is None
        assert 0.7 < time.monotonic() - start < 10
    # Once, and by itself no failure.
    assert lines[2:] == [str(int(number))]
    outcomes = group.outcomes
    assert [o.returncode for o in outcomes] == [-signal.SIGKILL, 5]
    assert [o.was_ended for o in outcomes] == [True, False]


def test_workers_are_killed_when_told_twice():
    lines = []
    with WorkerGroup(
        [sys.executable, "-c", INDEX + ENDS],
        1,
        on_line=lambda worker, line: lines.append(line),
        grace_seconds=600,
    ) as group:
        wait_until(lambda: lines)
        group.end(signal.SIGTERM)
        group.end(signal.SIGTERM)
        assert group.wait() is None
    assert group.outcomes[0].returncode == -signal.SIGKILL


def test_stopped_worker_goes_on_to_end():
    with sleepers(1, grace_seconds=600) as group:
        group.signal(0, signal.SIGSTOP)
        group.end(signal.SIGTERM)
        assert group.wait() is None
    assert group.outcomes[0].returncode == -signal.SIGTERM


def test_outcomes_tell_what_has_become_of_each():
    with sleepers(3) as group:
        assert "): still running after 0" in str(group.outcomes[0])
        group.signal(2, signal.SIGKILL)
        group.wait(60)
    words = [str(outcome).partition(": ")[2] for outcome in group.outcomes]
    seconds = r"after \d+\.\d s"
    assert re.fullmatch(f"SIGTERM {seconds}, ended with the group", words[0])
    assert re.fullmatch(f"SIGKILL {seconds}", words[2])
    for index, outcome in enumerate(group.outcomes):
        pid = group.pids[index]
        assert str(outcome).startswith(f"worker {index} (process {pid}): ")
        assert 0 < outcome.seconds < 60
