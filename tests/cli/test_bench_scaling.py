import dataclasses
import importlib
import importlib.util
import json
import os
import pathlib
import re
import sys

import click
import keras
import problem
import pytest
from click.testing import CliRunner
from places import SHARED

import tfdp
from tfdp.bench import scaling_trial
from tfdp.bench.cost_model import Point
from tfdp.cli import main
from tfdp.launching.worker_failure import WorkerFailure
from tfdp.machine.cores import usable_cores

SCRIPT = str(SHARED / "scaled.py")
ONE = Point(1, 1, 2, 16.0, 0.1, 0.0, 0.0, 0.0, 1_000_000)
SEVERAL = {"waiting": 0.002, "communication": 0.01, "voting": 0.001}
# As an attribute of the package this name is the command.
COMMAND = importlib.import_module("tfdp.cli.bench_scaling")


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch):
    for name in [n for n in os.environ if n.startswith(("SLURM_", "TFDP_"))]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("TF_CONFIG", raising=False)


def run(*args):
    result = CliRunner().invoke(main, ["bench", "scaling", *args])
    return result.exit_code, " ".join(result.output.split())


class FakeGroup:
    outcome: WorkerFailure | Exception | None = None
    batch = 8.0
    is_bound = False
    updates = 50
    is_written = True
    seen: list = []

    def __init__(self, command, num_workers, *, cpus_per_worker):
        self.seen.append((command[4:], num_workers, cpus_per_worker))
        self.result, self.workers = command[4], num_workers

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def wait(self, timeout):
        if isinstance(self.outcome, Exception):
            raise self.outcome
        parts = SEVERAL if self.workers > 1 else {}
        batch = self.batch if self.workers > 1 else 8.0
        point = dataclasses.replace(
            ONE,
            workers=self.workers,
            replicas=self.workers,
            samples=2 * batch * self.workers,
            **parts,
        )
        rate = point.samples_per_second
        found = {
            "point": dataclasses.asdict(point),
            "slowest": 0.9 * rate,
            "fastest": 1.1 * rate,
            "updates": self.updates,
            "unit": "tokens",
            "is_bound": self.is_bound,
        }
        if self.is_written and not self.outcome:
            pathlib.Path(self.result).write_text(json.dumps(found))
        return self.outcome


@pytest.fixture
def fake_group(monkeypatch):
    monkeypatch.setattr(FakeGroup, "seen", [])
    monkeypatch.setattr(COMMAND, "WorkerGroup", FakeGroup)
    monkeypatch.setattr(COMMAND, "usable_cores", lambda: 8)
    monkeypatch.setattr(COMMAND, "core_shares", lambda *given: [])
    return FakeGroup


def test_every_number_is_measured_with_the_same_cores(fake_group):
    code, output = run("--workers", "4,1,2", SCRIPT, "--epochs", "3")
    assert code == 0, output
    commands, numbers, cores = zip(*fake_group.seen, strict=True)
    assert numbers == (1, 2, 4)
    assert cores == (2, 2, 2)
    assert {tuple(c[1:]) for c in commands} == {("50", SCRIPT, "--epochs", "3")}
    assert "every worker has 2 core(s) of its own" in output


def test_what_was_measured_is_a_table(fake_group):
    _, output = run("--workers", "1,2,4", SCRIPT)
    assert "workers replicas tokens/s +- efficiency own waiting" in output
    assert " 1 1 160 10 % 100 % 100.00 0.00 0.00 " in output
    assert " 2 2 286 10 % 89 % 100.00 2.00 10.00 " in output
    assert " 4 4 571 10 % 89 % 100.00 2.00 10.00 " in output


def test_what_is_predicted_has_its_assumptions(fake_group):
    _, output = run("--workers", "1,2,4", SCRIPT)
    assert "Predicted, with accumulation_steps=2 as measured:" in output
    for workers in (8, 64, 512):
        assert f" {workers} workers: efficiency " in output
    assert re.search(r"accumulation_steps=\d+ for 90 % \(a global b", output)
    assert re.search(r"time: 2 workers [+-]\d+ %, 4 workers [+-]\d+ % ", output)
    assert "links are as between processes of this machine:" in output
    assert "a ring all-reduce of 1 MB of gradients" in output
    assert "two numbers above 1 would tell" not in output
    assert "bounds only" not in output


def test_another_network_changes_the_prediction(fake_group):
    _, here = run("--workers", "1,2", SCRIPT)
    _, there = run(
        *("--workers", "1,2", "--bandwidth", "8", "--latency", "5", SCRIPT)
    )
    assert "links: 5 µs per message (given), 8 Gbit/s (given)" in there
    pattern = r"512 workers: efficiency (\d+) %"
    efficiency = [int(re.search(pattern, text)[1]) for text in (here, there)]
    assert efficiency[0] < efficiency[1]
    # 514 votes cost more than what accumulation can spread.
    assert "no accumulation brings it to 90 %" in here


def test_two_numbers_are_not_validated(fake_group):
    _, output = run(SCRIPT)
    assert "Not validated: that needs at least two numbers" in output
    assert "two numbers above 1 would tell" in output


def test_one_number_predicts_nothing(fake_group):
    _, output = run("--workers", "1", SCRIPT)
    assert "No prediction: measure 1 worker and at least one larger" in output


def test_another_batch_predicts_nothing(fake_group, monkeypatch):
    monkeypatch.setattr(FakeGroup, "batch", 4.0)
    code, output = run(SCRIPT)
    assert code == 0
    assert "efficiency" in output
    assert "must be the same for any number of workers. Received: 8, 4" in (
        output
    )


def test_bounds_are_named(fake_group, monkeypatch):
    monkeypatch.setattr(FakeGroup, "is_bound", True)
    assert "parts of a step are bounds only" in run(SCRIPT)[1]


def test_a_short_fit_is_named(fake_group, monkeypatch):
    monkeypatch.setattr(FakeGroup, "updates", 7)
    assert "ended after 7 measured updates of 50" in run(SCRIPT)[1]


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (WorkerFailure(1, 3, None, ("no data",)), "exit code 3"),
        (TimeoutError("too late"), "measure fewer updates by --updates"),
    ],
    ids=["failure", "timeout"],
)
def test_a_failure_is_told(fake_group, monkeypatch, outcome, words):
    monkeypatch.setattr(FakeGroup, "outcome", outcome)
    code, output = run(SCRIPT)
    assert code == 1
    assert words in output


def test_a_script_that_leaves_nothing_is_told(fake_group, monkeypatch):
    monkeypatch.setattr(FakeGroup, "is_written", False)
    code, output = run(SCRIPT)
    assert code == 1
    assert "no measurement of 1 worker(s), and no error" in output


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--workers", "2,4", SCRIPT], "1 among them"),
        (["--workers", "1,x", SCRIPT], "Received: '1,x'"),
        (["--workers", "0,1", SCRIPT], "Received: '0,1'"),
        (["--updates", "4", SCRIPT], "--updates"),
        (["--bandwidth", "0", SCRIPT], "--bandwidth"),
        (["missing.py"], "must be a Python file. Received: 'missing.py'"),
        ([SCRIPT, "--workers", "1"], "Received: --workers after it."),
        ([SCRIPT, "a", "--updates=9"], "Received: --updates=9 after it."),
    ],
    ids=" ".join,
)
def test_options_are_checked(args, words):
    code, output = run(*args)
    assert code == 2
    assert words in output


def test_workers_without_cores_are_refused():
    code, output = run("--workers", "1,100000", SCRIPT)
    assert code == 1
    assert f"and {usable_cores()} core(s) to use. Measure at most" in output


def test_too_many_cores_are_refused():
    code, output = run(
        *("--workers", "1", "--cpus-per-worker", "100000", SCRIPT)
    )
    assert code == 1
    assert "Received: --cpus-per-worker 100000 with up to 1 workers" in output


@pytest.mark.parametrize("given", [[], ["--cpus-per-worker", "2"]])
def test_cores_that_cannot_be_kept_are_shared(fake_group, monkeypatch, given):
    def nowhere(*args):
        raise RuntimeError("Only Linux keeps a process on chosen cores.")

    monkeypatch.setattr(COMMAND, "core_shares", nowhere)
    code, output = run(*given, SCRIPT)
    if given:
        assert (code, "Only Linux" in output) == (1, True)
    else:
        assert "workers share all cores here" in output
        assert fake_group.seen[0][-1] is None


def test_a_monitor_of_the_script_measures(tmp_path):
    edges = tfdp.callbacks.DataParallel()
    own = tfdp.callbacks.ThroughputMonitor(unit="tokens")
    logger = tfdp.callbacks.RunLogger(tmp_path)
    result = tmp_path / "result.json"
    *found, trial = scaling_trial.with_trial([edges, own, logger], result, 12)
    assert found == [edges, own, logger]
    assert isinstance(trial, scaling_trial.Trial)
    assert (own.window, own.warmup_updates) == (3, 3)
    found = scaling_trial.with_trial([edges, logger], result, 50)
    kinds = [type(callback).__name__ for callback in found]
    assert kinds == ["DataParallel", "ThroughputMonitor", "RunLogger", "Trial"]


def test_a_fit_without_votes_is_refused(tmp_path):
    with pytest.raises(RuntimeError, match="must have `callbacks.DataParall"):
        scaling_trial.with_trial([], tmp_path / "result.json", 5)


def fit(strategy, result, updates, samples, **settings):
    with strategy.scope():
        model = problem.make_model()
        optimizer = tfdp.DistributedOptimizer(
            keras.optimizers.SGD(0.05), accumulation_steps=2
        )
        model.compile(optimizer, "mse")
    scaling_trial._measured_fit(keras.Model.fit, result, updates, [])(
        model,
        problem.dataset(samples, 16),
        verbose=0,
        callbacks=tfdp.callbacks.DataParallel(),
        **settings,
    )


def test_a_short_fit_is_measured_as_far_as_it_goes(two_replicas, tmp_path):
    result = tmp_path / "result.json"
    with pytest.raises(SystemExit) as ended:
        fit(two_replicas, result, 20, 16 * 2 * 8)
    assert ended.value.code == 0
    found = json.loads(result.read_text())
    assert found["updates"] == 4
    assert found["unit"] == "samples"
    assert found["slowest"] <= found["fastest"]
    point = Point(**found["point"])
    assert (point.workers, point.replicas) == (1, 2)
    assert point.accumulation_steps == 2
    assert point.per_replica_batch == 8
    assert point.gradient_bytes == 4 * (8 * 16 + 16 + 16 + 1)
    assert point.own > 0


def test_uneven_last_batches_are_left_out(two_replicas, tmp_path):
    result = tmp_path / "result.json"
    # Of 66 samples, the last update of an epoch has 2.
    for samples in (16 * 4 + 2, 16 * 6):
        with pytest.raises(SystemExit):
            fit(two_replicas, result, 5, samples, epochs=4)
        point = Point(**json.loads(result.read_text())["point"])
        assert point.samples == 32


def test_a_fit_of_warm_up_alone_is_refused(two_replicas, tmp_path):
    with pytest.raises(RuntimeError, match="ended within 10 updates of warm"):
        fit(two_replicas, tmp_path / "result.json", 50, 16 * 2 * 3)


def test_a_script_without_fit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(keras.Model, "fit", keras.Model.fit)
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    script = tmp_path / "script.py"
    script.write_text("import sys\nassert sys.argv[1:] == ['--fast']")
    with pytest.raises(RuntimeError, match="must train by `fit`"):
        scaling_trial.main("result.json", "5", str(script), "--fast")
    assert sys.path[0] == str(tmp_path)


@pytest.mark.long
@pytest.mark.multi_worker
@pytest.mark.skipif(usable_cores() < 2, reason="workers have their own cores")
def test_a_script_is_measured_with_one_and_two_workers():
    code, output = run("--workers", "1,2", "--updates", "5", SCRIPT)
    assert code == 0, output
    rows = re.findall(r"(?<= )([12]) ([12]) [\d,]+ \d+ % (\d+) % ", output)
    assert [row[:2] for row in rows] == [("1", "1"), ("2", "2")]
    assert rows[0][2] == "100"
    assert "Predicted, with accumulation_steps=2 as measured:" in output
    assert "for its 8 samples of a micro-batch" in output


def test_options_after_dashes_are_the_script_s(monkeypatch):
    seen = []

    def measured(number, cores, updates, timeout, command):
        seen.append(command)
        raise click.ClickException("enough")

    monkeypatch.setattr(COMMAND, "_measured", measured)
    code, output = run(SCRIPT, "--", "--workers", "7")
    assert (code, output.endswith("Error: enough")) == (1, True)
    assert seen == [[SCRIPT, "--workers", "7"]]


@pytest.mark.long
@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import sys\nsys.exit(0)", "must train by `fit`. Received:"),
        ("print(1)", "must train by `fit`. Received:"),
        ("import sys\nsys.exit(3)", "exit code 3"),
    ],
)
def test_a_script_that_ends_otherwise_is_named(tmp_path, program, words):
    script = tmp_path / "script.py"
    script.write_text(program)
    code, output = run("--workers", "1", str(script))
    assert code == 1
    assert words in output


def test_gpus_are_not_shared_out(monkeypatch, tmp_path):
    monkeypatch.setattr(
        scaling_trial.tf.config, "list_physical_devices", lambda kind: [kind]
    )
    with pytest.raises(RuntimeError, match="Workers must have devices of thei"):
        scaling_trial.main(str(tmp_path / "result.json"), "5", SCRIPT)


def test_a_script_must_use_the_cluster(monkeypatch):
    point = Point(1, 2, 1, 64.0, 0.1, 0.0, 0.0, 0.0, 8)
    found = {"slowest": 1.0, "fastest": 1.0, "updates": 50, "unit": "samples"}
    monkeypatch.setattr(COMMAND, "usable_cores", lambda: 2)
    monkeypatch.setattr(COMMAND, "core_shares", lambda *_: [])
    monkeypatch.setattr(
        COMMAND,
        "_measured",
        lambda *_: {
            "point": dataclasses.asdict(point),
            "is_bound": False,
            **found,
        },
    )
    code, output = run("--workers", "1,2", SCRIPT)
    assert code == 1
    assert "a strategy of 1 worker(s) among 2. Use `tfdp.auto_str" in output


def test_a_missing_package_is_told_before_anything_is_measured(
    fake_group, monkeypatch
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    code, output = run(SCRIPT)
    assert code == 1
    assert "Received: no scipy." in output
    assert "pip install 'tfdp[bench]'" in output
    assert fake_group.seen == []
