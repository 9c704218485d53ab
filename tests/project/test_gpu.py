"""`make gpu` says what it ran on, and that it ran on nothing without a card."""

import subprocess
import sys

import cards
import pytest
import tensorflow as tf
from places import SHARED


def run(*arguments):
    command = [sys.executable, SHARED / "gpu.py", *arguments]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=300
    )
    return result.returncode, result.stdout


@pytest.mark.skipif(
    bool(tf.config.list_physical_devices("GPU")), reason="there is a GPU"
)
def test_without_a_gpu_nothing_is_run_and_that_is_said():
    code, shown = run()
    assert code == 0
    assert shown.startswith("No GPU that TensorFlow sees: nothing was run.")
    assert "|" not in shown


def cells_of(shown):
    rows = [line for line in shown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in r.strip("|").split("|")] for r in rows]


@pytest.mark.long
def test_the_cases_hold_on_logical_cpus_which_are_called_so():
    few = ["mixed_float16, overflow", "monitor's bounds"]
    code, shown = run("--on-cpus", "--cases", *few)
    _, _, *cases = cells_of(shown)
    assert [each[0] for each in cases] == few
    assert {each[1] for each in cases} == {"2 logical CPUs, no GPU"}
    assert [each[-1] for each in cases] == ["yes", "yes"], shown
    assert code == 0
    overflow, monitor = (each[3] for each in cases)
    assert int(overflow.split()[0]) > 0
    assert overflow.endswith("replicas 0e+00 apart")
    assert monitor.startswith("measured; ")


@pytest.mark.long
def test_all_cases_hold_on_logical_cpus():
    code, shown = run("--on-cpus")
    _, _, *cases = cells_of(shown)
    assert len(cases) == 5
    assert [each[-1] for each in cases] == ["yes"] * 5, shown
    assert code == 0


def test_one_card_is_two_logical_ones_without_nccl():
    assert cards.planned([]) is None
    one = cards.planned(["H200"])
    assert one.words == "2 logical GPUs on one H200, without NCCL"
    assert one.names == ["GPU:0", "GPU:1"]
    assert isinstance(one.cross_device_ops, tf.distribute.ReductionToOneDevice)
    several = cards.planned(["A", "B", "C"])
    assert several.words == "A and B, with NCCL"
    assert several.names == one.names
    assert several.cross_device_ops is None


def test_cpus_are_taken_only_when_asked_for():
    assert cards.planned(["H200"], on_cpus=True).kind == "CPU"
