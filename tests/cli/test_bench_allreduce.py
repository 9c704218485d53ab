import os
import re
import sys

import pytest
import tensorflow as tf
from click.testing import CliRunner

from tfdp.bench import all_reduce_trials, probe
from tfdp.bench.all_reduce_curve import AllReduceCurve
from tfdp.bench.all_reduce_trials import (
    QUICK,
    all_reducing,
    in_rounds,
    measure,
    num_rounds,
    ones,
)
from tfdp.cli.bench import bench


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch):
    for name in [n for n in os.environ if n.startswith(("SLURM_", "TFDP_"))]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("TF_CONFIG", raising=False)


def run(*args):
    return CliRunner().invoke(bench, ["allreduce", *args])


@pytest.mark.parametrize(
    ("round_seconds", "rounds"), [(0.001, 30), (1.0, 20), (2.5, 8), (60.0, 7)]
)
def test_rounds_fit_into_the_budget(round_seconds, rounds):
    assert num_rounds(all_reduce_trials.FULL, round_seconds) == rounds


def test_every_trial_is_made_once_per_round():
    order = []

    def trial(name):
        return lambda: order.append(name) or name

    seconds = in_rounds([trial(n) for n in (0, 1, 2)], rounds=4)
    assert seconds == [[0] * 4, [1] * 4, [2] * 4]
    assert order == [0, 1, 2, 1, 2, 0, 2, 0, 1, 0, 1, 2]


def test_devices_of_one_process_are_measured_without_packs(two_replicas):
    curve = measure(two_replicas, QUICK)
    assert curve.num_replicas == 2
    assert list(curve.message_seconds) == list(QUICK.messages)
    assert all(
        len(seconds) == 2 and min(seconds) > 0
        for seconds in curve.message_seconds.values()
    )
    assert (curve.pack_seconds, curve.tensor_sizes) == ({}, ())


@pytest.mark.parametrize("pack", [0, 4096, 2**20])
@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
def test_what_is_measured_is_a_sum(two_replicas, dtype, pack):
    tensors = ones(two_replicas, QUICK.tensors, dtype)
    local = two_replicas.experimental_local_results(tensors[-1])
    assert [each.dtype.size * len(each) for each in local] == (
        [QUICK.tensors[-1]] * 2
    )
    assert all_reducing(two_replicas, tensors, pack)() == 2 * len(QUICK.tensors)


@pytest.mark.parametrize("strategy", [1], indirect=True)
def test_one_replica_is_refused(strategy, monkeypatch, capsys):
    with pytest.raises(ValueError, match="at least 2 replicas"):
        measure(strategy, QUICK)
    monkeypatch.setattr(probe, "auto_strategy", lambda: strategy)
    assert all_reduce_trials.main(["--prefix", "> "]) == 1
    assert capsys.readouterr().out == (
        "> this process failed: An all-reduce needs at least 2 replicas. "
        "Received: num_replicas=1. Pass --workers 2, or start this on every "
        "worker, by srun or with TF_CONFIG.\n"
    )


@pytest.mark.parametrize("is_chief", [True, False])
def test_only_the_chief_reports(monkeypatch, capsys, is_chief):
    class Strategy:
        pass

    Strategy.is_chief = is_chief
    curve = AllReduceCurve(2, {4096: [0.001]})
    monkeypatch.setattr(probe, "auto_strategy", Strategy)
    monkeypatch.setattr(all_reduce_trials, "measure", lambda *_: curve)
    assert all_reduce_trials.main(["--prefix", "> "]) == 0
    lines = capsys.readouterr().out.splitlines()
    expected = ["", *str(curve).splitlines()] if is_chief else []
    assert lines == [f"> {line}" for line in expected]


@pytest.mark.parametrize("options", [(), ("--quick",)])
def test_without_workers_the_command_becomes_the_program(monkeypatch, options):
    became = []

    def execv(*given):
        became.append(given)
        raise SystemExit(3)

    monkeypatch.setattr(os, "execv", execv)
    assert run(*options).exit_code == 3
    command = [
        sys.executable,
        "-P",
        "-u",
        "-m",
        "tfdp.bench.all_reduce_trials",
        *options,
    ]
    assert became == [(sys.executable, command)]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--workers", "0"], "--workers"),
        (["--workers", "1"], "at least 2 replicas. Received: --workers 1."),
        (["--timeout", "0"], "--timeout"),
        (
            ["--cpus-per-worker", "1"],
            "Received: --cpus-per-worker 1 without --workers.",
        ),
        (
            ["--workers", "2", "--cpus-per-worker", "10000"],
            "Received: cpus_per_worker=10000 with 2 workers",
        ),
    ],
)
def test_options_are_checked(args, message):
    result = run(*args)
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.long
@pytest.mark.multi_worker
def test_two_workers_are_measured():
    result = run("--workers", "2", "--quick")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == "2 workers on 1 host"
    assert "all-reduce of float32 over 2 replicas, medians of 2 rounds" in lines
    sizes = re.findall(r"^ +(\d+) KiB .* MB/s$", result.output, re.MULTILINE)
    assert sizes == ["4", "64"]
    packs = re.findall(
        r"^ +(4 KiB|one pack) +(\d+) .* ms", result.output, re.MULTILINE
    )
    assert packs == [("4 KiB", "4"), ("one pack", "1")]
    assert "Recommended for" in result.output or lines[-1].startswith(
        "Keep the"
    )
