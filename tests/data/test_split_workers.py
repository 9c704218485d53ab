"""What workers share out is what one device sees."""

import functools

import numpy as np
import pytest
from grids import later
from places import SHARED

import tfdp

pytestmark = pytest.mark.multi_worker
PROGRAM = SHARED / "split_data.py"


AT_ONCE = [
    "marked",
    "validated",
    "one sample",
    "arrays",
    "shuffled range",
]
CASES = {"few ways": (2, AT_ONCE), "2": (2, []), "3": (3, []), "4": (4, [])}


def run(workers, ways):
    return tfdp.testing.run_workers(PROGRAM, workers, ways, timeout=600)


@pytest.fixture(scope="module", params=later(CASES, ["few ways"]))
def case(request):
    return CASES[request.param]


@pytest.fixture(scope="module")
def workers(case):
    return run(*case)


@pytest.fixture(scope="module")
def of_one_device():
    """What one device finds, of any ways; each is trained once."""

    @functools.cache
    def found(*ways):
        (found,) = run(1, ways)
        return found

    return found


@pytest.fixture
def one_device(case, of_one_device):
    return of_one_device(*case[1])


def test_training_is_that_of_one_device(one_device, workers):
    for name, expected in one_device.items():
        if name == "computed":
            continue
        for worker in workers:
            for figure, values in expected.items():
                np.testing.assert_allclose(
                    worker[name][figure], values, rtol=1e-5, atol=1e-5
                )


def test_each_worker_computes_its_own_samples_alone(one_device, workers):
    epochs = 3
    assert len(one_device["computed"]) == epochs * 37
    for index, worker in enumerate(workers):
        own = list(range(37))[index :: len(workers)]
        assert worker["computed"] == epochs * own
