"""Functions as workers: what they send, what they say, how they end."""

import functools
import json
import linecache
import os
import pathlib
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import psutil
import pytest
import tensorflow as tf

from tfdp.calls.call_folder import CallFolder
from tfdp.calls.launch import launch

TOLD = "Every worker must return from the function. Received: "


def index():
    return json.loads(os.environ["TF_CONFIG"])["task"]["index"]


def here(function):
    """The function as if it were of the main program, so that it is sent."""
    function.__module__ = "__main__"
    return function


def in_a_cell(code, name="<cell 1>"):
    """What a notebook makes of a cell: code that is in no file."""
    code = textwrap.dedent(code)
    linecache.cache[name] = (len(code), None, code.splitlines(True), name)
    namespace = {"__name__": "__main__"}
    exec(compile(code, name, "exec"), namespace)
    return namespace


@pytest.fixture(autouse=True)
def _cells_are_forgotten():
    yield
    linecache.cache.pop("<cell 1>", None)


def is_gone(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_values_come_back_by_worker(capfd):
    factor = 3

    @here
    def function(a, b):
        print("hello")
        worker = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
        return factor * worker, b, np.full(2, a)

    found = launch(function, [0.5, None], workers=2)
    assert [value[:2] for value in found] == [(0, None), (3, None)]
    np.testing.assert_array_equal([value[2] for value in found], 0.5)
    out, _ = capfd.readouterr()
    assert sorted(out.splitlines()) == ["[worker 0] hello", "[worker 1] hello"]


def test_what_is_no_plain_function_is_called_too():
    assert launch(lambda: None, workers=1) == [None]
    assert launch(functools.partial(pow, 2), [5], workers=1) == [32]
    assert launch(os.path.basename, ("a/b",), workers=1) == ["b"]


def test_classes_of_the_main_program_stay_what_they_are():
    cell = in_a_cell(
        """
        class Point:
            def __init__(self, x):
                self.x = x

        def moved(point):
            return Point(point.x + 1)
        """
    )
    (found,) = launch(cell["moved"], [cell["Point"](2)], workers=1)
    assert type(found) is cell["Point"]
    assert found.x == 3


def test_an_error_has_the_lines_of_the_cell(capfd):
    cell = in_a_cell(
        """
        import json, os, time

        def inner(text):
            raise ValueError(text)

        def outer():
            worker = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
            if worker == 1:
                inner("no such thing")
            time.sleep(60)
        """
    )
    begin = time.monotonic()
    with pytest.raises(RuntimeError) as raised:
        launch(cell["outer"], workers=2)
    assert time.monotonic() - begin < 30
    told, _, traceback = str(raised.value).partition("\n\n")
    assert told == f"{TOLD}worker 1, which has raised what follows."
    lines = [
        "Traceback (most recent call last):",
        '  File "<cell 1>", line 10, in outer',
        '    inner("no such thing")',
        '  File "<cell 1>", line 5, in inner',
        "    raise ValueError(text)",
        "ValueError: no such thing",
    ]
    # Which characters are meant is marked by some versions of Python.
    shown = [x for x in traceback.splitlines() if set(x.strip()) - {*"^~"}]
    assert shown == lines
    out, _ = capfd.readouterr()
    assert set(lines) <= {
        line.removeprefix("[worker 1] ") for line in out.splitlines()
    }


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
        ("sys.exit(3)", "Worker 0 failed with exit code 3"),
        ("sys.exit()", "nothing of worker 0, which ended in it with exit code"),
        ("return threading.Lock()", "returns must be sent back. Received: a l"),
        ("from a_module import b", "ModuleNotFoundError: No module named 'a_m"),
    ],
)
def test_what_comes_of_other_ends_is_told(code, told):
    text = f"def function():\n import os, signal, sys, threading\n {code}"
    with pytest.raises(RuntimeError, match=TOLD) as raised:
        launch(in_a_cell(text)["function"], workers=1)
    assert told in str(raised.value)


def test_a_module_is_imported_along_the_same_path(tmp_path, monkeypatch):
    (tmp_path / "own_module.py").write_text(
        "import os\ndef pid():\n    return os.getpid(), __name__\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    import own_module

    ((pid, name),) = launch(own_module.pid, workers=1)
    assert pid != os.getpid()
    assert name == "own_module"
    del sys.modules["own_module"]


def test_settings_reach_the_workers(tmp_path):
    @here
    def function():
        print("said", os.environ["OWN"])
        return sorted(os.sched_getaffinity(0))

    (cores,) = launch(
        function,
        workers=1,
        cpus_per_worker=1,
        env={"OWN": "value"},
        log_dir=tmp_path,
    )
    assert len(cores) == 1
    assert "said value\n" in (tmp_path / "worker-0.log").read_text()


def test_what_tensorflow_says_of_its_start_is_kept_in_files(tmp_path, capfd):
    start_up = (
        "WARNING: All log messages before absl::InitializeLog() is called are "
        "written to STDERR"
    )

    @here
    def function():
        print(start_up)
        print("my " + start_up)

    launch(function, workers=1, log_dir=tmp_path)
    out, _ = capfd.readouterr()
    assert out.splitlines() == [f"[worker 0] my {start_up}"]
    assert f"\n{start_up}\n" in (tmp_path / "worker-0.log").read_text()


def test_time_is_limited():
    with pytest.raises(TimeoutError, match="within timeout=1 seconds"):
        launch(lambda: time.sleep(60), workers=1, timeout=1)


def test_a_folder_is_for_this_user_alone_and_is_removed():
    with CallFolder(index, []) as folder:
        path = pathlib.Path(folder.command[-1])
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert folder.value(0) is None
        assert folder.traceback(0) == ""
    assert not path.exists()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"function": "train"},
            TypeError,
            "must be given a function to call. ",
        ),
        (
            {"args": "text"},
            TypeError,
            r"`args` must be a list .*'text' \(str\)",
        ),
        ({"args": 3}, TypeError, r"`args` must be a list or .*=3 \(int\)"),
        ({"args": [threading.Lock()]}, TypeError, "Received: index, of which "),
        ({"workers": 0}, ValueError, "`workers` must be at least 1. "),
        ({"workers": 2000}, ValueError, "`workers` must be at most 1024. "),
        ({"workers": 1.5}, TypeError, "`workers` must be an integer. "),
        ({"cpus_per_worker": 10**6}, ValueError, "cpus_per_worker=1000000"),
        ({"env": {"TF_CONFIG": "{}"}}, ValueError, "TF_CONFIG is set for each"),
        ({"timeout": -1}, ValueError, "`timeout` must be finite and pos"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        launch(**{"function": index, "workers": 1, **arguments})


PROGRAM = """
import os, sys, threading, time
from tfdp.calls.launch import launch

def function(folder):
    if {ignores}:
        import signal
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    open(os.path.join(folder, str(os.getpid())), "w").close()
    time.sleep(600)

try:
    launch(function, [sys.argv[1]], workers=2)
except KeyboardInterrupt:
    print("interrupted")
    sys.exit(5)
"""


@pytest.mark.parametrize(
    ("number", "ignores", "times", "code"),
    [
        (signal.SIGINT, False, 1, 5),
        (signal.SIGINT, True, 2, 5),
        (signal.SIGTERM, False, 1, -signal.SIGTERM),
        (signal.SIGKILL, False, 1, -signal.SIGKILL),
    ],
)
def test_an_interruption_ends_all(tmp_path, number, ignores, times, code):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM.format(ignores=ignores))
    folder, temporary = tmp_path / "pids", tmp_path / "temporary"
    folder.mkdir()
    temporary.mkdir()
    with subprocess.Popen(
        [sys.executable, script, folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
    ) as process:
        deadline = time.monotonic() + 60
        while len(os.listdir(folder)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        pids = [int(name) for name in os.listdir(folder)]
        for _ in range(times):
            process.send_signal(number)
            time.sleep(0.5)
        begin = time.monotonic()
        out, _ = process.communicate(timeout=60)
        assert time.monotonic() - begin < 4
    assert process.returncode == code
    assert ("interrupted" in out) == (code == 5)
    # Nobody wants to know where each worker was.
    assert "Traceback" not in out
    deadline = time.monotonic() + 10
    while not all(map(is_gone, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    if number != signal.SIGKILL:
        assert not list(temporary.iterdir())


def test_it_runs_in_any_thread():
    found = []
    thread = threading.Thread(
        target=lambda: found.extend(launch(os.getpid, workers=1))
    )
    thread.start()
    thread.join(60)
    assert found
    assert found != [os.getpid()]


@pytest.mark.multi_worker
def test_workers_train_though_this_process_has_started_tensorflow():
    assert float(tf.constant(1.0) + 1) == 2.0
    cell = in_a_cell(
        """
        import tensorflow as tf
        import tfdp

        def function(summand):
            strategy = tfdp.auto_strategy()

            @tf.function
            def step():
                # By AutoGraph, which has to see the lines.
                if tf.constant(summand) > 1.0:
                    return tf.constant(summand)
                return tf.constant(0.0)

            return float(strategy.reduce("SUM", strategy.run(step), axis=None))
        """
    )
    assert launch(cell["function"], [1.5], workers=2) == [3.0, 3.0]


def test_a_cell_is_interrupted_and_the_kernel_goes_on(tmp_path):
    from jupyter_client.manager import start_new_kernel

    manager, kernel = start_new_kernel(cwd=str(tmp_path))
    try:
        program = PROGRAM.format(ignores=False).replace("sys.argv[1]", "'.'")
        name = kernel.execute(program.partition("\ntry:")[0])
        kernel.get_shell_msg(timeout=60)
        name = kernel.execute("launch(function, ['.'], workers=2)")
        deadline = time.monotonic() + 60
        pids = []
        while len(pids) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
            pids = [int(x) for x in os.listdir(tmp_path) if x.isdigit()]
        manager.interrupt_kernel()
        reply = kernel.get_shell_msg(timeout=60)
        assert reply["parent_header"]["msg_id"] == name
        assert reply["content"]["ename"] == "KeyboardInterrupt"
        assert all(map(is_gone, pids))
        kernel.execute("launch(os.getpid, workers=1)")
        assert kernel.get_shell_msg(timeout=60)["content"]["status"] == "ok"
    finally:
        kernel.stop_channels()
        manager.shutdown_kernel(now=True)


def test_what_is_printed_comes_at_once(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(
        "import time\nfrom tfdp.calls.launch import launch\n"
        "def function():\n    print('now')\n    time.sleep(600)\n"
        "launch(function, workers=1)\n"
    )
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "[worker 0] now\n"
        process.terminate()


def test_no_room_takes_the_name_of_the_function():
    code = (
        "import tfdp, tfdp.cli, tfdp.elastic.nodes, tfdp.launching\n"
        "print(tfdp.launch.__module__, tfdp.launch([].count, [1], workers=2))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    )
    assert result.stdout == "tfdp.calls.launch [0, 0]\n"
