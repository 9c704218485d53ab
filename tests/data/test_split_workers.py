"""What workers share out is what one device sees."""

import numpy as np
import pytest
from places import SHARED

import tfdp

pytestmark = pytest.mark.multi_worker
PROGRAM = SHARED / "split_data.py"


def run(workers):
    return tfdp.testing.run_workers(PROGRAM, workers, timeout=600)


@pytest.fixture(scope="module")
def one_device():
    (found,) = run(1)
    return found


@pytest.fixture(
    scope="module", params=[2, 3, pytest.param(4, marks=pytest.mark.long)]
)
def workers(request):
    return run(request.param)


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
