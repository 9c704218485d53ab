"""Gradients that travel by gloo make the training that TensorFlow's make."""

import carried_training as program
import keras
import numpy as np
import problem
import pytest

import tfdp
from tfdp.upstream import gloo

pytestmark = [
    pytest.mark.multi_worker,
    pytest.mark.skipif(not gloo.is_there(), reason="gloo is not installed"),
]


def by(communication, workers=2, names=tuple(program.SETTINGS)):
    return tfdp.testing.run_workers(
        program.trained,
        workers,
        [list(names)],
        env={"TFDP_COMMUNICATION": communication},
        timeout=400,
    )


@pytest.fixture(scope="module")
def by_gloo():
    return by("gloo")


@pytest.fixture(scope="module")
def by_tensorflow():
    return by("tensorflow")


def on_one_device():
    model = program.make_model()
    model.compile(program.sgd(), "mse")
    model.fit(program.data(program.BATCH), epochs=program.EPOCHS, verbose=0)
    return np.concatenate([w.ravel() for w in model.get_weights()])


def weights(found):
    return np.frombuffer(bytes.fromhex(found["weights"]))


@pytest.mark.parametrize("name", program.SETTINGS)
def test_of_two_workers_weights_are_the_same_bits(by_gloo, by_tensorflow, name):
    for found in by_gloo:
        assert found[name]["weights"] == by_tensorflow[0][name]["weights"]
    assert by_gloo[0][name] == by_gloo[1][name]


@pytest.mark.parametrize("name", program.SETTINGS)
def test_what_is_in_float32_is_carried(by_gloo, by_tensorflow, name):
    """The kernel of the first layer alone, and all else as one."""
    updates = program.EPOCHS * 4
    carried = {"float16": 0, "every third": 8}
    expected = carried.get(name, 2 * updates)
    if name in ("local", "DiLoCo"):
        assert 0 < by_gloo[0][name]["taken"] < expected
    else:
        assert by_gloo[0][name]["taken"] == expected
    assert by_tensorflow[0][name]["taken"] == 0


def test_memory_is_used_again(by_gloo):
    assert by_gloo[0]["places"] <= 8


@pytest.mark.parametrize(
    "workers", [3, pytest.param(4, marks=pytest.mark.long)]
)
def test_more_workers_equal_one_device(workers):
    names = ["each batch", "every third"]
    reports = by("gloo", workers, names)
    expected = on_one_device()
    for found in reports:
        for name in names[:1]:
            assert weights(found[name]) == pytest.approx(expected, abs=1e-6)
        assert found == reports[0]


def test_branches_are_taken_in_one_order():
    found = tfdp.testing.run_workers(
        program.summed_by_two_steps,
        2,
        env={"TFDP_COMMUNICATION": "gloo", "TF_NUM_INTEROP_THREADS": "1"},
    )
    assert found == 2 * [[[0, 0, 0], [2, 4, 2], [4, 8, 2]]]
