import json
import signal
import socket
import subprocess
import sys
import textwrap
import time
import types

import psutil
import pytest

from tfdp.workers import WorkerGroup

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


def test_chosen_log_level_is_kept(monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    result = run("print(os.environ['TF_CPP_MIN_LOG_LEVEL'])", 1)
    assert result.lines == [["0"]]


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
    from tfdp.workers import WorkerGroup
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
    from tfdp.workers import WorkerGroup
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
