import json
import os
import pty
import signal
import subprocess
import sys
import textwrap
import time

import psutil
import pytest

LAUNCH = [sys.executable, "-m", "tfdp.cli", "launch"]


@pytest.fixture
def script(tmp_path):
    """Writes a script that has `index`, and returns its path."""

    def write(code):
        path = tmp_path / "train.py"
        path.write_text(
            "import json, os, sys, time\n"
            "index = json.loads(os.environ['TF_CONFIG'])['task']['index']\n"
            "ready = os.path.join(os.path.dirname(__file__), 'ready')\n"
            + textwrap.dedent(code)
        )
        return str(path)

    return write


def launch(*args, **options):
    return subprocess.run(
        [*LAUNCH, *args], capture_output=True, text=True, timeout=120, **options
    )


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


def test_lines_carry_the_worker_that_printed_them(script):
    path = script("print('hello'); print('oh', file=sys.stderr)")
    result = launch("--workers", "2", path)
    assert (result.returncode, result.stderr) == (0, "")
    assert sorted(result.stdout.splitlines()) == [
        "[worker 0] hello",
        "[worker 0] oh",
        "[worker 1] hello",
        "[worker 1] oh",
    ]


def test_prefixes_are_coloured_on_a_terminal(script):
    terminal, stdout = pty.openpty()
    command = [*LAUNCH, "--workers", "2", script("print('hello')")]
    subprocess.run(command, stdout=stdout, check=True, timeout=120)
    output = os.read(terminal, 10_000).decode()
    os.close(stdout)
    os.close(terminal)
    assert "\x1b[36m[worker 0] \x1b[0mhello" in output
    assert "\x1b[35m[worker 1] \x1b[0mhello" in output


def test_everything_after_the_script_belongs_to_it(script):
    args = ["a b", "--workers", "7", "--help", "-x", "--", "--grace-seconds=1"]
    path = script("print(json.dumps(sys.argv))")
    result = launch("--workers", "1", path, *args)
    line = result.stdout.removeprefix("[worker 0] ")
    assert json.loads(line) == [path, *args]


def test_failure_is_told_and_its_exit_code_passed_on(script):
    path = script(
        """
        if index == 1:
            while not os.path.exists(ready): time.sleep(0.01)
            sys.exit('out of data')
        print(os.getpid())
        open(ready, 'w').close()
        time.sleep(60)
        """
    )
    result = launch("--workers", "2", path)
    assert result.returncode == 1
    assert result.stderr == (
        "Worker 1 failed with exit code 1. All other workers were ended.\n"
        "Last lines of worker 1:\n"
        "  out of data\n"
    )
    # The two workers' lines come in any order.
    (line,) = (x for x in result.stdout.splitlines() if "[worker 0]" in x)
    assert is_gone(line.removeprefix("[worker 0] "))


def test_death_by_signal_is_told(script):
    result = launch("--workers", "1", script("os.kill(os.getpid(), 11)"))
    assert result.returncode == 139
    assert "Worker 0 was killed by SIGSEGV (exit code 139)." in result.stderr


def test_grace_period_is_an_option(script):
    path = script(
        """
        import signal
        if index == 0:
            while not os.path.exists(ready): time.sleep(0.01)
            sys.exit(3)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        open(ready, 'w').close()
        time.sleep(60)
        """
    )
    start = time.monotonic()
    result = launch("--workers", "2", "--grace-seconds", "0.2", path)
    assert result.returncode == 3
    assert time.monotonic() - start < 4


SLEEP = "print(os.getpid()); time.sleep(60)"


@pytest.mark.parametrize(
    ("number", "exit_code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)],
)
def test_signals_to_the_launcher_end_the_workers(script, number, exit_code):
    command = [*LAUNCH, "--workers", "2", script(SLEEP)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as launcher:
        pids = [launcher.stdout.readline().split()[-1] for _ in range(2)]
        launcher.send_signal(number)
        assert launcher.wait(timeout=60) == exit_code
        if number != signal.SIGKILL:
            assert all(map(is_gone, pids))
        wait_until(lambda: all(map(is_gone, pids)))
        assert launcher.stderr.read() == ""


def test_second_signal_does_not_wait_for_the_grace_period(script):
    path = script("import signal; signal.signal(15, signal.SIG_IGN)\n" + SLEEP)
    command = [*LAUNCH, "--workers", "1", "--grace-seconds", "60", path]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True
    ) as launcher:
        pid = launcher.stdout.readline().split()[-1]
        launcher.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert not is_gone(pid)
        launcher.send_signal(signal.SIGINT)
        assert launcher.wait(timeout=60) == -signal.SIGINT
    wait_until(lambda: is_gone(pid))


def test_closed_output_ends_the_workers(script):
    path = script("print(os.getpid())\nwhile True: print('x')")
    command = [*LAUNCH, "--workers", "1", path]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as launcher:
        pid = launcher.stdout.readline().split()[-1]
        launcher.stdout.close()
        assert launcher.wait(timeout=60) == 1
        assert launcher.stderr.read() == ""
        assert is_gone(pid)


def test_character_the_terminal_lacks_does_not_end_the_workers(script):
    path = script("sys.stdout.buffer.write('━ 1/1\\n'.encode())")
    env = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    result = launch("--workers", "1", path, env=env)
    assert (result.returncode, result.stdout) == (0, "[worker 0] ? 1/1\n")


@pytest.mark.parametrize("count", ["0", "-1"])
def test_there_must_be_a_worker(script, count):
    result = launch("--workers", count, script(""))
    assert result.returncode == 2
    assert "there must be at least one worker" in result.stderr
    assert f"Received: {count}. Use 1" in result.stderr


@pytest.mark.parametrize(
    ("name", "what"), [("missing.py", "does not exist"), ("", "is a directory")]
)
def test_script_must_be_a_file(tmp_path, name, what):
    path = str(tmp_path / name)
    result = launch("--workers", "2", path)
    assert result.returncode == 2
    message = " ".join(result.stderr.split())
    assert f"it must be a Python file. Received: '{path}'" in message
    assert f"which {what} (in {os.getcwd()})" in message
    assert "Options of the launcher come before the script" in message


def test_misspelt_option_is_not_taken_for_the_script(script):
    result = launch("--worker", "2", script(""))
    assert result.returncode == 2
    assert "No such option" in result.stderr


def test_version_is_the_installed_one():
    command = [sys.executable, "-m", "tfdp.cli", "--version"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("tfdp, version 0.")
