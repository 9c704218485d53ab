"""Gradients that travel by gloo make the training that TensorFlow's make."""

import os
import subprocess
import sys

import carried_training as program
import numpy as np
import pytest
from places import SHARED

import tfdp
from tfdp.cluster import Cluster, free_addresses
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
    # What waits leaves at the end of an epoch.
    waited = 2 * program.EPOCHS if name == "delayed" else 0
    expected = 0 if name == "float16" else 2 * updates + waited
    if name in ("local", "DiLoCo", "eagerly, one weight"):
        assert 0 < by_gloo[0][name]["taken"] < expected
    else:
        assert by_gloo[0][name]["taken"] == expected
    assert by_tensorflow[0][name]["taken"] == 0


def test_memory_is_used_again(by_gloo):
    assert by_gloo[0]["places"] <= 8


@pytest.mark.long
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


@pytest.mark.sampled
@pytest.mark.parametrize("fault", ["SIGKILL", "SIGSTOP"])
def test_a_worker_that_is_lost_on_the_way_is_named(tmp_path, fault):
    """Also where no launcher watches, as on two machines."""
    addresses = free_addresses(2)
    code = f"import carried_training as p; p.lost_on_the_way({fault!r})"
    workers = []
    with (tmp_path / "output").open("w+") as output:
        for index in range(2):
            variables = {
                "TF_CONFIG": Cluster.of(addresses, index).to_tf_config(),
                "TFDP_COMMUNICATION": "gloo",
                "PYTHONPATH": str(SHARED),
            }
            workers.append(
                subprocess.Popen(
                    [sys.executable, "-c", code],
                    env={**os.environ, **variables},
                    stdout=output,
                )
            )
        try:
            assert workers[0].wait(100) == 7
        finally:
            for each in workers:
                each.kill()
                each.wait()
        output.seek(0)
        heard = output.read()
    assert f"HEARD ['Lost worker 1 ({addresses[1]}): it was killed" in heard


@pytest.mark.long
def test_branches_are_taken_in_one_order():
    found = tfdp.testing.run_workers(
        program.summed_by_two_steps,
        2,
        env={"TFDP_COMMUNICATION": "gloo", "TF_NUM_INTEROP_THREADS": "1"},
    )
    assert found == 2 * [[[0, 0, 0], [2, 4, 2], [4, 8, 2]]]
