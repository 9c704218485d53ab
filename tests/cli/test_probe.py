import os
import sys
from unittest import mock

import click
import pytest

from tfdp.bench import probe
from tfdp.cli import probe as command
from tfdp.cluster.cluster import Cluster
from tfdp.launching.worker_failure import WorkerFailure
from tfdp.launching.worker_group import WorkerGroup


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch):
    for name in [n for n in os.environ if n.startswith(("SLURM_", "TFDP_"))]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("TF_CONFIG", raising=False)


@pytest.mark.parametrize(("is_well", "code"), [(True, 0), (False, 1)])
def test_a_probe_examines_a_strategy(monkeypatch, capsys, is_well, code):
    def examine(strategy, say):
        say(f"{strategy}\n\nof two")
        return is_well

    monkeypatch.setattr(probe, "auto_strategy", lambda: "a strategy")
    assert probe.run(examine, "> ") == code
    assert capsys.readouterr().out == "> a strategy\n> \n> of two\n"


@pytest.mark.parametrize(
    "error", [ValueError, RuntimeError, TimeoutError], ids=lambda e: e.__name__
)
def test_a_worker_with_an_error_names_itself(monkeypatch, capsys, error):
    def lonely():
        raise error("Every worker must be there.")

    cluster = Cluster.of(["a:1", "b:1"], 0)
    monkeypatch.setenv("TF_CONFIG", cluster.to_tf_config())
    monkeypatch.setattr(probe, "auto_strategy", lonely)
    assert probe.run(lambda *_: True, "> ") == 1
    output, errors = capsys.readouterr()
    assert output.startswith("> 2 workers on 2 hosts\n")
    assert output.endswith(
        "> worker 0 (a:1) failed: Every worker must be there.\n"
    )
    assert "Traceback" not in errors


def test_an_unknown_error_has_a_traceback(monkeypatch, capsys):
    def broken():
        raise KeyError("lost")

    monkeypatch.setattr(probe, "auto_strategy", broken)
    assert probe.run(lambda *_: True, "") == 1
    output, errors = capsys.readouterr()
    assert output == "this process failed: 'lost'\n"
    assert "Traceback" in errors


def test_a_malformed_cluster_is_explained(monkeypatch, capsys):
    monkeypatch.setenv("TF_CONFIG", "worker")
    assert probe.run(lambda *_: True, "") == 1
    message = "this process failed: TF_CONFIG must be JSON. Received: worker"
    assert message in capsys.readouterr().out


@pytest.fixture
def group(monkeypatch):
    """What `WorkerGroup` returns; a group that has ended well."""
    made = mock.create_autospec(WorkerGroup)
    made.return_value.wait.return_value = None
    monkeypatch.setattr(command, "WorkerGroup", made)
    return made.return_value


def run(**changes):
    options = {"num_workers": 2, "cpus_per_worker": 3, "timeout": 1.0}
    command.run("some.module", "--fast", **{**options, **changes})


def test_only_the_report_is_shown(group, capsys):
    def wait(timeout):
        (program, num_workers), options = command.WorkerGroup.call_args
        *program, prefix = program
        assert program == [
            *(sys.executable, "-P", "-u", "-m", "some.module"),
            *("--fast", "--prefix"),
        ]
        options["on_line"](0, "noise")
        options["on_line"](1, f"{prefix}{num_workers} for {timeout} s")
        assert options["cpus_per_worker"] == 3

    group.wait.side_effect = wait
    run()
    assert capsys.readouterr().out == "2 for 1.0 s\n"
    group.__exit__.assert_called_once()


def test_a_failure_is_told(group):
    found = WorkerFailure(1, 3, None, ("out of data",))
    group.wait.return_value = found
    with pytest.raises(click.ClickException) as caught:
        run()
    assert caught.value.message == str(found)


def test_a_timeout_is_told(group):
    group.wait.side_effect = TimeoutError("worker 1")
    with pytest.raises(click.ClickException, match="worker 1"):
        run()
    group.__exit__.assert_called_once()


def test_workers_that_cannot_start_are_a_wrong_use():
    with pytest.raises(click.UsageError, match="cpus_per_worker=10000 with 2"):
        run(cpus_per_worker=10000)
