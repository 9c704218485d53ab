"""Workers that are forked are like those that are started anew."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tfdp.launching.fork_server import ForkedProcess, ForkServer
from tfdp.launching.worker_group import WorkerGroup, worker_variables


@pytest.fixture(scope="module")
def server():
    server = ForkServer(["no.such.module", "colorsys"], worker_variables())
    yield server
    server.close()


@pytest.fixture
def script(tmp_path):
    def write(code):
        path = tmp_path / "worker.py"
        path.write_text(f"import json, os, signal, sys, time\n{code}\n")
        return [sys.executable, "-u", str(path)]

    return write


def started(server, command, env):
    process = server.start(command, env)
    process.begin()
    return process


def output_of(process):
    with process.stdout:
        printed = process.stdout.read()
    process.wait(10)
    return printed


@pytest.fixture(params=["default", "ignored"])
def like_this_process(request):
    """A server of a process that an interrupt ends, or does not."""
    ways = {"default": signal.default_int_handler, "ignored": signal.SIG_IGN}
    before = signal.signal(signal.SIGINT, ways[request.param])
    server = ForkServer(["colorsys"], worker_variables())
    yield server
    server.close()
    signal.signal(signal.SIGINT, before)


def test_a_worker_is_what_it_would_be_if_started(
    like_this_process, script, monkeypatch
):
    command = script(
        "print(json.dumps([sys.argv, os.getcwd(), os.environ['TFDP_OWN'], "
        "__name__, sys.path[0], sys.stdin.read(), os.getsid(0) == os.getpid(),"
        " signal.getsignal(signal.SIGINT) is signal.default_int_handler, "
        "signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL]))"
    )
    monkeypatch.chdir(os.path.dirname(command[-1]))
    env = {**worker_variables(), "TFDP_OWN": "é"}
    options = {"stdin": subprocess.DEVNULL, "start_new_session": True}
    expected = subprocess.check_output(
        [*command, "a", "b c"], env=env, text=True, **options
    )
    process = started(like_this_process, [*command, "a", "b c"], env)
    assert output_of(process) == expected
    assert process.wait(10) == process.poll() == 0


@pytest.mark.parametrize("option", [[], ["-P"]])
def test_the_folder_of_a_script_is_on_the_path_unless_told(
    server, script, option
):
    (*python, path) = script("import beside\nprint(beside.VALUE)")
    with open(os.path.join(os.path.dirname(path), "beside.py"), "w") as file:
        file.write("VALUE = 'found'")
    process = started(server, [*python, *option, path], worker_variables())
    output = output_of(process)
    assert ("found" in output) == (option == [])
    assert (process.wait(10) == 0) == (option == [])


def test_what_was_loaded_before_is_there(server, script):
    command = script("print('colorsys' in sys.modules)")
    assert "True" in output_of(started(server, command, worker_variables()))
    assert "False" in subprocess.check_output(command, text=True)


def test_workers_draw_different_random_numbers(script):
    server = ForkServer(["numpy"], worker_variables())
    command = script(
        "import random, numpy\nprint(random.random(), numpy.random.rand())"
    )
    processes = [started(server, command, worker_variables()) for _ in range(3)]
    numbers = {n for each in processes for n in output_of(each).split()}
    server.close()
    assert len(numbers) == 6


def test_variables_that_are_set_too_late_are_told(script):
    server = ForkServer(["keras"], worker_variables())
    command = script(
        "os.environ['TF_LATE'] = '1'\nos.environ['TF_LATE'] = '2'\n"
        "os.environ['OTHER'] = os.environ['TF_CONFIG'] = '1'\n"
        "os.environ['TF_SET'] = '1'"
    )
    env = {**worker_variables(), "TF_CONFIG": "{}"}
    told = output_of(started(server, command, env))
    server.close()
    assert "Received: TF_LATE=1, which may have no effect." in told
    assert "Received: TF_SET=1" in told
    assert told.count("Received") == 2


def test_where_nothing_reads_variables_none_are_late(server, script):
    command = script("os.environ['TF_LATE'] = '1'")
    assert output_of(started(server, command, worker_variables())) == ""


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("sys.exit(3)", 3),
        ("raise ValueError('oh')", 1),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("os._exit(7)", 7),
    ],
)
def test_the_exit_code_is_that_of_the_worker(server, script, ending, code):
    process = started(server, script(ending), worker_variables())
    output_of(process)
    assert process.poll() == code


def test_what_is_registered_for_the_exit_runs(server, script):
    command = script(
        "import atexit\nclass Own: pass\n"
        "atexit.register(lambda: print(sys.modules['__main__'].Own.__name__))"
    )
    assert output_of(started(server, command, worker_variables())) == "Own\n"


def test_a_worker_that_runs_on_can_be_waited_for_and_ended(server, script):
    process = started(server, script("time.sleep(60)"), worker_variables())
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == -signal.SIGTERM
    output_of(process)
    # Nobody is meant by the number of a process that has ended.
    process.send_signal(signal.SIGTERM)


@pytest.mark.parametrize(
    ("command", "variables"),
    [
        (["sleep", "1"], {}),
        ([sys.executable], {}),
        ([sys.executable, "-c", "pass"], {}),
        ([sys.executable, "-X", "dev", __file__], {}),
        ([sys.executable, "no such file.py"], {}),
        ([sys.executable, __file__, 1], {}),
        ([sys.executable, __file__, "a\0b"], {}),
        ([sys.executable, __file__], {"PYTHONPATH": "elsewhere"}),
        ([sys.executable, __file__], {"TFDP_LARGE": "x" * 2**17}),
    ],
)
def test_what_would_be_different_is_not_taken(server, command, variables):
    assert not server.takes(command, {**worker_variables(), **variables})


def test_nothing_is_started_in_a_folder_that_is_gone(
    server, tmp_path, monkeypatch
):
    command = [sys.executable, __file__]
    assert server.takes(command, worker_variables())
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert not server.takes(command, worker_variables())


@pytest.mark.parametrize("name", ["TF_CONFIG", "TFDP_PORT", "PYTEST_ANY"])
def test_what_no_import_reads_may_be_different(server, name):
    env = {**worker_variables(), name: "1"}
    assert server.takes([sys.executable, "-u", "-P", __file__, "-x"], env)


def test_a_group_of_forked_workers_ends_together(server, script):
    command = script(
        "print(os.getppid(), flush=True)\n"
        "os.fork()\n"
        "time.sleep(60 * (json.loads(os.environ['TF_CONFIG'])['task']['index']"
        " == 0))\nsys.exit(5)"
    )
    parents = []
    with WorkerGroup(
        command, 2, server=server, on_line=lambda _, line: parents.append(line)
    ) as group:
        failure = group.wait(30)
    assert (failure.worker, failure.exit_code) == (1, 5)
    assert str(os.getpid()) not in parents
    left = [
        process.pid
        for process in psutil.process_iter(["status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE
        and _session(process.pid) in group.pids.values()
    ]
    assert left == []


def test_a_group_starts_anew_what_the_server_does_not_take(server, script):
    command = script("print(os.getppid(), flush=True)")
    parents = []
    with WorkerGroup(
        command,
        1,
        server=server,
        env={"PYTHONDONTWRITEBYTECODE": "x"},
        on_line=lambda _, line: parents.append(line),
    ) as group:
        assert group.wait(30) is None
    assert parents == [str(os.getpid())]


def test_a_server_that_is_gone_is_told(script):
    server = ForkServer([], worker_variables())
    server.close()
    server.close()
    command = script("pass")
    assert not server.takes(command, worker_variables())
    with pytest.raises(RuntimeError) as caught:
        server.start(command, worker_variables())
    assert str(caught.value) == (
        "A fork server must live as long as its workers are started. "
        "Received: no answer in 120 s. Something has ended or stopped it; "
        'start workers by start_method="spawn".'
    )


class Forgetful(ForkServer):
    """Dies after it has taken a command."""

    def start(self, command, env):
        self.close()
        return super().start(command, env)


def test_a_group_does_without_a_server_that_dies(script):
    lines = []
    command = script("print(os.getppid(), flush=True)")
    with WorkerGroup(
        command,
        1,
        server=Forgetful([], worker_variables()),
        on_line=lambda _, line: lines.append(line),
    ) as group:
        assert group.wait(30) is None
    assert lines == [str(os.getpid())]


def test_a_server_that_is_stopped_is_not_waited_for(server):
    (status, its_status), (output, its_output) = os.pipe(), os.pipe()
    its_permission, permission = os.pipe()
    with pytest.raises(RuntimeError, match=r"no answer in 0\.1 s"):
        ForkedProcess(status, output, permission, timeout=0.1)
    # Should it go on, the worker ends by itself.
    assert os.read(its_permission, 1) == b""
    for descriptor in (its_status, its_output, its_permission):
        os.close(descriptor)


def test_a_worker_does_nothing_where_nobody_is_left_to_begin_it(
    server, script, tmp_path
):
    command = script(f"open({str(tmp_path / 'ran')!r}, 'w')")
    process = server.start(command, worker_variables())
    process._permission.close()
    assert output_of(process) == ""
    assert process.poll() == 1
    assert not (tmp_path / "ran").exists()


def test_what_has_left_the_session_ends_with_the_group(server, script):
    command = script(
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    print(os.getpid(), flush=True)\n"
        "    time.sleep(60)\n"
        "time.sleep(0.5)"
    )
    lines = []
    with WorkerGroup(
        command, 1, server=server, on_line=lambda _, line: lines.append(line)
    ) as group:
        assert group.wait(30) is None
    (pid,) = lines
    assert not psutil.pid_exists(int(pid)) or (
        psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE
    )


def test_what_has_left_the_session_ends_with_its_owner(script, tmp_path):
    command = script(
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    print(os.getpid(), flush=True)\n"
        "time.sleep(60)"
    )
    owner = tmp_path / "owner.py"
    owner.write_text(
        "from tfdp.launching import ForkServer, WorkerGroup, worker_variables\n"
        "server = ForkServer([], worker_variables())\n"
        f"WorkerGroup({command!r}, 1, server=server,\n"
        "    on_line=lambda _, line: print(line, flush=True)).wait()\n"
    )
    with subprocess.Popen(
        [sys.executable, owner], stdout=subprocess.PIPE, text=True
    ) as process:
        pid = int(process.stdout.readline())
        process.kill()
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(pid)


def test_a_worker_has_the_cores_and_the_umask_of_its_owner(server, script):
    command = script("print(len(os.sched_getaffinity(0)), oct(os.umask(0)))")
    cores, umask = os.sched_getaffinity(0), os.umask(0o077)
    os.sched_setaffinity(0, {min(cores)})
    try:
        process = started(server, command, worker_variables())
    finally:
        os.sched_setaffinity(0, cores)
        os.umask(umask)
    assert output_of(process) == "1 0o77\n"


def test_a_worker_that_nobody_waits_for_was_killed():
    (status, its_status), (output, its_output) = os.pipe(), os.pipe()
    its_permission, permission = os.pipe()
    os.write(its_status, b"123456 123455\n")
    for descriptor in (its_status, its_output, its_permission):
        os.close(descriptor)
    process = ForkedProcess(status, output, permission)
    assert (process.pid, process.keeper) == (123456, 123455)
    process.begin()
    assert output_of(process) == ""
    assert process.poll() == -signal.SIGKILL


def _session(pid):
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None
