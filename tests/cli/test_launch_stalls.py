import json
import os
import pathlib
import re
import subprocess
import sys
import textwrap

import grids
import keras
import numpy as np
import problem
import pytest

LAUNCH = [sys.executable, "-m", "tfdp.cli", "launch"]
HANGING = pathlib.Path(problem.__file__).with_name("hanging.py")
# A worker that says where it stands, without TensorFlow.
HEAD = """
import json, os, signal, sys, threading, time
from tfdp.board import State, own_board
index = json.loads(os.environ['TF_CONFIG'])['task']['index']
attempt = int(os.environ['TFDP_RESTART_COUNT'])
board = own_board()
board.note(State.CALLBACKS, epoch=0)
for update in range(1, 4):
    board.note(State.TRAINING, step=update)
    board.note(State.CALLBACKS, update=update, made=1)
def wait(seconds=60):
    board.note(State.WAITING, 'the vote of all workers')
    time.sleep(seconds)
"""


@pytest.fixture
def script(tmp_path):
    def write(code):
        path = tmp_path / "train.py"
        path.write_text(HEAD + textwrap.dedent(code))
        return str(path)

    return write


def launch(*args, timeout=60, **options):
    return subprocess.run(
        [*LAUNCH, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=timeout,
        **options,
    )


def line_of(path, text):
    lines = pathlib.Path(path).read_text().splitlines()
    (number,) = (n for n, line in enumerate(lines, 1) if text in line)
    return number


HANG_ONCE = """
def load():
    time.sleep(60)  # here
if attempt == 0:
    load() if index == 1 else wait()
"""


def test_who_keeps_others_waiting_is_told_and_all_start_again(script, tmp_path):
    path = script(HANG_ONCE)
    result = launch(
        *("--workers", 2, "--max-restarts", 1, "--stall-seconds", 1),
        *("--log-dir", tmp_path / "logs", path),
        cwd=tmp_path,
    )
    assert result.returncode == 0
    told = result.stderr.splitlines()
    assert re.fullmatch(
        r"No worker has made progress for 1[.\d]* s \(more than the 1 s of "
        r"--stall-seconds\)\.",
        told[0],
    )
    line = line_of(path, "# here")
    assert re.fullmatch(
        r"Worker 1 has not come to the vote of all workers: in callbacks after "
        rf"a step \(update 3\), in train\.py:{line} load, for 1[.\d]* s",
        told[1],
    )
    assert re.fullmatch(
        r"Worker 0: waiting for the vote of all workers \(update 3\), in "
        r"train\.py:\d+ wait, for [.\d]+ s",
        told[2],
    )
    file = tmp_path / "logs" / "stall-1.txt"
    assert told[3] == f"Stacks of all threads: {file}"
    stacks = file.read_text()
    assert "=== worker 0 (process " in stacks
    assert f'File "{path}", line {line} in load' in stacks
    assert re.match(
        r"Worker 1 has made no progress for 1[.\d]* s\. All other workers were "
        r"ended\.",
        told[4],
    )
    assert "restart 1 of 1" in told


def test_where_no_restart_is_left_it_is_only_told(script):
    path = script("wait(3.5) if index == 0 else time.sleep(3.5)")
    result = launch("--workers=2", "--stall-seconds=1", path)
    assert result.returncode == 0
    # Again after twice the time, and once more if the machine is slow.
    assert result.stderr.count("No worker has made progress for") in (2, 3)
    assert "were ended" not in result.stderr


def test_the_end_of_a_stall_is_told(script):
    path = script(
        """
        wait(2)
        board.note(State.TRAINING, step=4)
        time.sleep(0.7)
        """
    )
    result = launch("--workers=1", "--stall-seconds=1", path)
    assert re.search(r"The training goes on after 1[.\d]* s\.", result.stderr)


def test_a_restart_may_be_asked_for_where_none_is_left(script):
    path = script("wait()")
    result = launch(
        "--workers=1", "--stall-seconds=1", "--on-stall=restart", path
    )
    assert result.returncode == 124
    assert "Worker 0 has made no progress for 1" in result.stderr


def test_a_report_may_be_all_where_restarts_are_left(script):
    path = script("wait(2)")
    options = ["--max-restarts=3", "--on-stall=report"]
    result = launch("--workers=1", "--stall-seconds=1", *options, path)
    assert result.returncode == 0
    assert "No worker has made progress" in result.stderr
    assert "restart 1 of" not in result.stderr


def test_zero_turns_it_off(script):
    path = script("wait(2)")
    result = launch("--workers=1", "--stall-seconds=0", path)
    assert "No worker has made progress" not in result.stderr


ALIVE = {
    "validates": "for _ in range(5): nap(State.VALIDATING, 0.3)",
    "makes a graph": "nap(State.TRACING, 1.5)",
    "saves": "nap(State.SAVING, 1.5)",
    "is between epochs": "nap(State.PAUSE, 1.5)",
}


@pytest.mark.parametrize(
    "case", grids.later(ALIVE, ["validates", "is between epochs"])
)
def test_no_alarm_while_a_worker(script, case):
    path = script(
        f"""
        def nap(state, seconds):
            board.note(state)
            time.sleep(seconds)
        if index == 0:
            wait(1.5)
        else:
            {ALIVE[case]}
        """
    )
    result = launch("--workers=2", "--stall-seconds=0.5", path)
    assert re.fullmatch(r"2 workers ended after \d+ s\n", result.stderr)


def test_no_alarm_after_a_fit(script):
    path = script("board.note(State.ENDED, epoch=-1)\ntime.sleep(1.5)")
    result = launch("--workers=2", "--stall-seconds=0.5", path)
    assert re.fullmatch(r"2 workers ended after \d+ s\n", result.stderr)


def test_a_program_without_a_fit_is_let_alone(tmp_path):
    path = tmp_path / "train.py"
    path.write_text("import time; time.sleep(1)")
    options = ["--workers=1", "--stall-seconds=0.2", "--start-timeout=0.2"]
    result = launch(*options, path)
    assert re.fullmatch(r"1 worker ended after \d+ s\n", result.stderr)


def test_what_may_take_long_has_the_time_of_the_start(script):
    path = script(
        "board.note(State.TRACING)\nwait(60) if 0 else time.sleep(60)"
    )
    options = ["--stall-seconds=0.5", "--start-timeout=1.5"]
    options.append("--on-stall=restart")
    result = launch("--workers=1", *options, path)
    assert result.returncode == 124
    assert (
        "(more than the 1.5 s that may pass outside of the steps of an epoch)"
        in result.stderr
    )


def test_a_malformed_time_of_the_start_is_the_workers_matter(script):
    env = {**os.environ, "TFDP_START_TIMEOUT": "soon"}
    result = launch("--workers=1", script(""), env=env)
    assert result.returncode == 0


STOP = "os.kill(os.getpid(), 19) if index else wait(4)  # here"


def test_a_stopped_worker_is_told_as_such(script, tmp_path):
    result = launch(
        *("--workers=2", "--stall-seconds=1", "--on-stall=report"),
        script(STOP),
        cwd=tmp_path,
    )
    assert re.search(
        r"Worker 1 has not come to the vote of all workers: stopped by a "
        r"signal \(update 3\), in an unknown line \(it runs nothing\), for ",
        result.stderr,
    )


def test_a_stopped_worker_that_is_to_end_tells_its_line(script, tmp_path):
    path = script(STOP)
    line = line_of(path, "# here")
    result = launch(
        *("--workers=2", "--stall-seconds=1", "--on-stall=restart", path),
        cwd=tmp_path,
    )
    assert re.search(
        r"Worker 1 has not come to the vote of all workers: stopped by a "
        rf"signal \(update 3\), in train\.py:{line} <module>, for ",
        result.stderr,
    )


def test_the_line_of_a_stopped_worker_is_told_without_a_stall(script, tmp_path):
    path = script(STOP)
    line = line_of(path, "# here")
    result = launch("--workers=2", path, cwd=tmp_path)
    assert result.returncode == 128 + 19
    assert re.match(
        r"Worker 1 has been stopped \(SIGSTOP\) for 3(\.\d)? s\. It was in "
        rf"callbacks after a step \(update 3\), in train\.py:{line} <module>\. "
        r"All other workers were ended\.\n",
        result.stderr,
    )


@pytest.mark.parametrize(
    ("death", "told"),
    [
        ("sys.exit(3)", "failed with exit code 3. It was "),
        ("os.kill(os.getpid(), 9)", "was killed by SIGKILL (exit code 137). "),
    ],
)
def test_where_a_worker_was_that_has_failed_is_told(script, death, told):
    result = launch("--workers=1", script(death))
    where = "It was in callbacks after a step (update 3). "
    assert result.stderr.startswith(
        f"Worker 0 {told.removesuffix('It was ')}{where}"
    )


HANDLER = "import signal; signal.signal(43, lambda *_: print('mine'))\n"


@pytest.mark.parametrize("when", ["before", "later"])
def test_a_handler_of_the_programs_own_is_not_called(tmp_path, when):
    path = tmp_path / "train.py"
    later = f"{HANDLER}board.note(epoch=1)\nwait(2)"
    path.write_text(
        f"{HANDLER}{HEAD}wait(2)" if when == "before" else HEAD + later
    )
    result = launch("--workers=1", "--stall-seconds=1", path)
    assert "mine" not in result.stdout
    assert "in an unknown line (its program handles the signal itself)" in (
        result.stderr
    )


def test_stacks_without_a_place_for_them_are_in_a_temporary_file(
    script, tmp_path
):
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    result = launch(
        "--workers=1", "--stall-seconds=1", script("wait(2)"), env=env
    )
    (file,) = tmp_path.glob("tfdp-stall-*.txt")
    assert f"Stacks of all threads: {file}" in result.stderr
    assert "in wait" in file.read_text()


def test_stacks_that_cannot_be_written_do_not_end_the_job(script):
    path = script("wait(2)")
    code = (
        "import sys, tempfile\n"
        "def full(*a, **k): raise OSError(28, 'No space left on device')\n"
        "tempfile.mkstemp = full\n"
        "from tfdp.cli import main; main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, "launch", "--workers=1"]
        + ["--stall-seconds=1", path],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0
    assert (
        "Stacks of all threads: not written (No space left on device)."
        in result.stderr
    )


@pytest.mark.parametrize(
    "options",
    [
        ("--stall-seconds=5",),
        ("--on-stall=report",),
    ],
)
def test_workers_that_do_not_wait_have_no_stalls(script, options):
    result = launch("--asynchronous", "--workers=1", *options, script(""))
    assert result.returncode == 2
    (name,) = (x.partition("=")[0] for x in options)
    message = " ".join(result.stderr.replace("│", " ").split())
    assert f"Received: --asynchronous and {name}. Leave it out." in message


@pytest.mark.parametrize("value", ["-1", "nan", "soon"])
def test_a_time_that_is_none_is_refused(script, value):
    result = launch("--workers=1", f"--stall-seconds={value}", script(""))
    assert result.returncode == 2
    assert "--stall-seconds" in result.stderr


def weights_on_one_device():
    x, y = problem.arrays(128)
    keras.utils.set_random_seed(5)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.05), "mse")
    model.fit(x, y, batch_size=16, shuffle=False, epochs=2, verbose=0)
    return model.get_weights()


def train(folder, fault):
    result = launch(
        *("--workers", 2, "--max-restarts", 3, "--stall-seconds", 3),
        *("--log-dir", folder, HANGING, folder, fault),
        timeout=180,
        cwd=HANGING.parent,
    )
    assert result.returncode == 0, result.stderr
    found = json.loads((folder / "weights.json").read_text())
    for own, plain in zip(found, weights_on_one_device(), strict=True):
        np.testing.assert_allclose(own, plain, rtol=0, atol=1e-6)
    return result.stderr


@pytest.mark.long
@pytest.mark.multi_worker
@pytest.mark.parametrize(
    "fault",
    grids.later(
        ["callback", "in C", "data", "lock"],
        ["data"],
    ),
)
def test_a_worker_that_hangs_is_named_and_training_goes_on(tmp_path, fault):
    told = train(tmp_path, fault)
    line = line_of(HANGING, f"# {fault}")
    assert re.search(
        rf"\nWorker 1 has not .*, in hanging\.py:{line} \w+, for", told
    )
    assert "restart 1 of 3" in told


@pytest.mark.long
@pytest.mark.multi_worker
def test_a_stopped_worker_is_named_and_training_goes_on(tmp_path):
    told = train(tmp_path, "stop")
    assert "Worker 1 has" in told
    assert "stopped" in told


@pytest.mark.long
@pytest.mark.multi_worker
def test_a_slow_training_makes_no_alarm(tmp_path):
    assert "No worker has made progress" not in train(tmp_path, "slow")
