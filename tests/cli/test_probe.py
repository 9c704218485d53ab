import os
import sys

import click
import pytest

from tfdp import probe
from tfdp.cli import probe as command
from tfdp.cluster import Cluster
from tfdp.worker_failure import WorkerFailure


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


class FakeGroup:
    outcome: WorkerFailure | Exception | None = None

    def __init__(self, program, num_workers, *, cpus_per_worker, on_line):
        assert program[:-1] == [
            *(sys.executable, "-P", "-u", "-m", "some.module"),
            *("--fast", "--prefix"),
        ]
        on_line(0, "noise")
        on_line(1, f"{program[-1]}{num_workers} {cpus_per_worker}")

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def wait(self, timeout):
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@pytest.fixture
def fake_group(monkeypatch):
    monkeypatch.setattr(command, "WorkerGroup", FakeGroup)


def run(**changes):
    options = {"num_workers": 2, "cpus_per_worker": 3, "timeout": 1.0}
    command.run("some.module", "--fast", **{**options, **changes})


@pytest.mark.usefixtures("fake_group")
def test_only_the_report_is_shown(capsys):
    run()
    assert capsys.readouterr().out == "2 3\n"


@pytest.mark.usefixtures("fake_group")
@pytest.mark.parametrize(
    "found",
    [WorkerFailure(1, 3, None, ("out of data",)), TimeoutError("worker 1")],
    ids=["failure", "timeout"],
)
def test_a_failure_is_told(monkeypatch, found):
    monkeypatch.setattr(FakeGroup, "outcome", found)
    with pytest.raises(click.ClickException) as caught:
        run()
    assert caught.value.message == str(found)


def test_workers_that_cannot_start_are_a_wrong_use():
    with pytest.raises(click.UsageError, match="cpus_per_worker=10000 with 2"):
        run(cpus_per_worker=10000)
