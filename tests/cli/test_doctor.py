import json
import os
import socket
import subprocess
import sys

import pytest
from click.testing import CliRunner

from tfdp.cli import main

TASK = {"type": "worker", "index": 0}


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch):
    for name in [n for n in os.environ if n.startswith(("SLURM_", "TFDP_"))]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("TF_CONFIG", raising=False)


@pytest.fixture
def free_address():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def doctor(*args, tf_config=None, charset="utf-8"):
    env = {} if tf_config is None else {"TF_CONFIG": tf_config}
    return CliRunner(charset=charset).invoke(main, ["doctor", *args], env=env)


def test_the_command_runs_by_itself_and_quietly(free_address):
    cluster = {"worker": [free_address]}
    env = {
        **os.environ,
        "TF_CONFIG": json.dumps({"cluster": cluster, "task": TASK}),
        "PYTHONIOENCODING": "utf-8",
    }
    result = subprocess.run(
        [sys.executable, "-m", "tfdp.cli", "doctor"],
        env=env,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=400,
    )
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    titles = [x for x in lines if x and not x.startswith((" ", "✓"))]
    assert titles == [
        "versions",
        "cluster",
        "ports",
        "devices",
        "cores",
        "kernels",
        "precision",
    ]
    assert f"      worker 0  {free_address}  chief, this process" in lines
    assert lines[-1] == "✓ training would start"


def test_what_keeps_from_starting_is_the_last_line():
    config = {"cluster": {"worker": ["a:1"]}, "task": {**TASK, "index": 1}}
    result = doctor(tf_config=json.dumps(config))
    assert result.exit_code == 1
    last = result.output.splitlines()[-1]
    assert last.startswith(
        "✗ training would not start: The task's index must be a place in its "
        "job's list. Received: index=1, with 1 worker address(es)."
    )


def test_further_errors_are_counted(free_address):
    config = {
        "cluster": {"worker": [f"http://{free_address}", "nowhere.invalid:1"]},
        "task": TASK,
    }
    result = doctor("--timeout", "0.5", tf_config=json.dumps(config))
    assert result.exit_code == 1
    assert result.output.splitlines()[-1].endswith("(and 1 more)")
    assert "  ✗ Every worker must be reachable." in result.output


def test_the_correction_can_be_copied(free_address):
    config = {"cluster": {"worker": [free_address]}, "task": TASK}
    result = doctor(tf_config=repr(config))
    assert result.exit_code == 1
    export = f"export TF_CONFIG='{json.dumps(config)}'"
    assert export in result.output.splitlines()
    assert "  ! probably meant:" in result.output
    assert doctor(tf_config=json.dumps(config)).exit_code == 0


def test_marks_degrade_where_the_terminal_lacks_them():
    result = doctor(tf_config="worker", charset="ascii")
    assert result.exit_code == 1
    assert "  + tfdp " in result.output
    assert "  x TF_CONFIG must be JSON. Received: worker (" in result.output


@pytest.mark.parametrize("seconds", ["0", "-1", "soon"])
def test_the_timeout_is_positive(seconds):
    result = doctor("--timeout", seconds)
    assert result.exit_code == 2
    assert "--timeout" in result.output
