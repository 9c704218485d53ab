"""Workers that are forked are like those that are started anew."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from tfdp.launch.fork_server import ForkedProcess, ForkServer
from tfdp.launch.worker_group import WorkerGroup, worker_variables


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


def output_of(process):
    with process.stdout:
        printed = process.stdout.read()
    process.wait(10)
    return printed


def test_a_worker_is_what_it_would_be_if_started(server, script, monkeypatch):
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
    process = server.start([*command, "a", "b c"], env)
    assert output_of(process) == expected
    assert process.wait(10) == process.poll() == 0


@pytest.mark.parametrize("option", [[], ["-P"]])
def test_the_folder_of_a_script_is_on_the_path_unless_told(
    server, script, option
):
    (*python, path) = script("import beside\nprint(beside.VALUE)")
    with open(os.path.join(os.path.dirname(path), "beside.py"), "w") as file:
        file.write("VALUE = 'found'")
    process = server.start([*python, *option, path], worker_variables())
    output = output_of(process)
    assert ("found" in output) == (option == [])
    assert (process.wait(10) == 0) == (option == [])


def test_what_was_loaded_before_is_there(server, script):
    command = script("print('colorsys' in sys.modules)")
    assert "True" in output_of(server.start(command, worker_variables()))
    assert "False" in subprocess.check_output(command, text=True)


def test_workers_draw_different_random_numbers(script):
    server = ForkServer(["numpy"], worker_variables())
    command = script(
        "import random, numpy\nprint(random.random(), numpy.random.rand())"
    )
    processes = [server.start(command, worker_variables()) for _ in range(3)]
    numbers = {n for each in processes for n in output_of(each).split()}
    server.close()
    assert len(numbers) == 6


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
    process = server.start(script(ending), worker_variables())
    output_of(process)
    assert process.poll() == code


def test_what_is_registered_for_the_exit_runs(server, script):
    command = script("import atexit\natexit.register(print, 'at exit')")
    assert output_of(server.start(command, worker_variables())) == "at exit\n"


def test_a_worker_that_runs_on_can_be_waited_for_and_ended(server, script):
    process = server.start(script("time.sleep(60)"), worker_variables())
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
        ([sys.executable, "-X", "dev", "a.py"], {}),
        ([sys.executable, "a.py"], {"PYTHONPATH": "elsewhere"}),
        ([sys.executable, "a.py"], {"TFDP_LARGE": "x" * 2**17}),
    ],
)
def test_what_would_be_different_is_not_taken(server, command, variables):
    assert not server.takes(command, {**worker_variables(), **variables})


@pytest.mark.parametrize("name", ["TF_CONFIG", "TFDP_PORT", "PYTEST_ANY"])
def test_what_no_import_reads_may_be_different(server, name):
    env = {**worker_variables(), name: "1"}
    assert server.takes([sys.executable, "-u", "-P", "a.py", "-x"], env)


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
        "Received: no answer. Something has ended it; start workers by "
        'start_method="spawn".'
    )


def test_a_worker_that_nobody_waits_for_was_killed():
    (status, its_status), (output, its_output) = os.pipe(), os.pipe()
    os.write(its_status, b"123456\n")
    os.close(its_status)
    os.close(its_output)
    process = ForkedProcess(status, output)
    assert process.pid == 123456
    assert output_of(process) == ""
    assert process.poll() == -signal.SIGKILL


def _session(pid):
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None
