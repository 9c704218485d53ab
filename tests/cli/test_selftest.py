import os
import re
import sys

import keras
import numpy as np
import pytest
from click.testing import CliRunner

from tfdp.bench import probe, selftest
from tfdp.bench.selftest import median_seconds
from tfdp.bench.selftest_outcome import MEBIBYTE, Outcome, weight_deviation
from tfdp.cli import main
from tfdp.cluster.cluster import Cluster

SMALL = {"_ALL_REDUCE_SIZES": (4096,)}


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch):
    for name in [n for n in os.environ if n.startswith(("SLURM_", "TFDP_"))]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("TF_CONFIG", raising=False)


def outcome(*deviations, **changes):
    settings = {
        "num_replicas": 2,
        "samples_per_second": 1234.5,
        "all_reduce_seconds": {32 * MEBIBYTE: 0.25},
    }
    return Outcome(deviations, **{**settings, **changes})


@pytest.mark.parametrize(
    ("actual", "expected", "deviation"),
    [
        ([[0.5]], [[0.25]], 0.25),
        ([[0.0], [10.0]], [[0.0], [8.0]], 0.25),
        ([[-3.0, 1.0]], [[-4.0, 1.0]], 0.25),
        ([[1.0]], [[1.0]], 0.0),
    ],
)
def test_a_deviation_is_relative_to_weights_above_one(
    actual, expected, deviation
):
    arrays = [[np.array(w) for w in weights] for weights in (actual, expected)]
    assert weight_deviation(*arrays) == deviation


@pytest.mark.parametrize("place", [0, 1])
def test_weights_that_are_no_numbers_deviate(place):
    weights = [np.zeros(2), np.zeros(2)]
    weights[place] = np.array([0.0, np.nan])
    deviation = weight_deviation(weights, [np.zeros(2), np.zeros(2)])
    assert np.isnan(deviation)
    assert outcome(0.0, deviation).failed_workers == [1]


@pytest.mark.parametrize(
    ("deviations", "failed"),
    [
        ([0.0, 1e-6], []),
        ([0.0, 1.1e-6], [1]),
        ([np.inf, 0.0, np.nan], [0, 2]),
    ],
)
def test_workers_fail_by_themselves(deviations, failed):
    found = outcome(*deviations)
    assert found.failed_workers == failed
    assert found.passed == (not failed)
    last = str(found).splitlines()[-1]
    names = ", ".join(map(str, failed))
    assert last == (f"failed on worker {names}" if failed else "passed")


def test_bandwidth_is_bytes_of_the_tensor_over_seconds():
    assert (
        "all-reduce of 32 MiB of float32: 250.0 ms, 134 MB of the tensor per "
        "second"
    ) in str(outcome(0.0))


def test_one_replica_reduces_nothing():
    found = outcome(0.0, num_replicas=1, all_reduce_seconds={})
    assert "all-reduce" not in str(found)
    assert "samples/s on 1 replica," in str(found)


def test_the_first_call_is_not_measured():
    calls = []
    times = iter([0, 5, 10, 11, 20, 23])
    seconds = median_seconds(
        lambda: calls.append(1), repetitions=3, clock=lambda: next(times)
    )
    assert (seconds, len(calls)) == (3, 4)


@pytest.fixture
def small(monkeypatch):
    for name, value in SMALL.items():
        monkeypatch.setattr(selftest, name, value)


@pytest.mark.usefixtures("small")
def test_replicas_pass(strategy):
    found = selftest.self_test(strategy)
    assert found.passed, str(found)
    assert found.num_replicas == strategy.num_replicas_in_sync
    assert found.samples_per_second > 0
    is_alone = found.num_replicas == 1
    assert list(found.all_reduce_seconds) == ([] if is_alone else [4096])


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    "wrong",
    [
        {"_ACCUMULATION_STEPS": 1},
        {"_inner_optimizer": lambda: keras.optimizers.SGD(0.05001)},
    ],
    ids=["cycle", "optimizer"],
)
def test_another_training_fails(two_replicas, monkeypatch, wrong):
    expected = selftest._trained_on_one_device(2)
    monkeypatch.setattr(selftest, "_trained_on_one_device", lambda _: expected)
    for name, value in wrong.items():
        monkeypatch.setattr(selftest, name, value)
    assert selftest.self_test(two_replicas).failed_workers == [0]


@pytest.mark.usefixtures("small")
def test_the_program_reports_with_its_prefix(two_replicas, monkeypatch, capsys):
    monkeypatch.setattr(probe, "auto_strategy", lambda: two_replicas)
    assert selftest.main(["--prefix", "> "]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "> passed"
    assert all(line.startswith("> ") for line in lines)


def test_weights_that_deviate_make_the_program_fail(
    two_replicas, monkeypatch, capsys
):
    monkeypatch.setattr(probe, "auto_strategy", lambda: two_replicas)
    monkeypatch.setattr(selftest, "self_test", lambda _: outcome(1.0))
    assert selftest.main([]) == 1
    assert capsys.readouterr().out.endswith("failed on worker 0\n")


def test_a_worker_that_deviates_names_itself(monkeypatch, capsys):
    class Second:
        is_chief = False
        worker_index = 1

    cluster = Cluster.of(["a:1", "b:1"], 1)
    monkeypatch.setenv("TF_CONFIG", cluster.to_tf_config())
    monkeypatch.setattr(probe, "auto_strategy", Second)
    monkeypatch.setattr(selftest, "self_test", lambda _: outcome(0.0, 0.5))
    assert selftest.main([]) == 1
    assert capsys.readouterr().out == (
        "worker 1 (b:1) failed: its weights deviate by 0.5\n"
    )


def run(*args):
    return CliRunner().invoke(main, ["selftest", *args])


def test_without_workers_the_command_becomes_the_training(monkeypatch):
    became = []

    def execv(*given):
        became.append(given)
        raise SystemExit(3)

    monkeypatch.setattr(os, "execv", execv)
    assert run().exit_code == 3
    command = [sys.executable, "-P", "-u", "-m", "tfdp.bench.selftest"]
    assert became == [(sys.executable, command)]


@pytest.mark.parametrize(
    "args", [["--workers", "0"], ["--timeout", "0"], ["--workers", "two"]]
)
def test_options_are_checked(args):
    result = run(*args)
    assert result.exit_code == 2
    assert args[0] in result.output


@pytest.mark.long
@pytest.mark.multi_worker
def test_two_workers_pass():
    result = run("--workers", "2", "--timeout", "300")
    assert result.exit_code == 0, result.output
    first, *lines = result.output.splitlines()
    assert first == "2 workers on 1 host"
    assert lines[-1] == "passed"
    deviation = re.search(r"deviate by (\S+) at most", result.output)[1]
    assert float(deviation) <= 1e-6
    sizes = re.findall(r"all-reduce of (\d+) MiB .* ms, ", result.output)
    assert sizes == ["4", "32"]
