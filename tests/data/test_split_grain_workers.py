"""Workers that read their own elements of Grain's train as one device does."""

import numpy as np
import pytest
from places import SHARED

import tfdp

pytest.importorskip("grain")
pytestmark = [pytest.mark.multi_worker, pytest.mark.long]
REFUSED = {
    "seed": "elements before `tfdp.shard` that are not the same on all",
    "drops": "no worker knows what all of them would drop",
    "others": "All parts of a dataset of Grain's are split alike",
    "predict": "`predict` returns its rows in the order",
    "twice": "a MapDataset that `tfdp.shard` was applied to before",
    "few": "Each worker needs an element of a MapDataset. Received: 1",
}


def run(workers, replicas=1):
    return tfdp.testing.run_workers(
        SHARED / "split_grain.py", workers, [str(replicas)], timeout=600
    )


@pytest.fixture(scope="module")
def one_device():
    (found,) = run(1)
    return found


@pytest.fixture(
    scope="module",
    params=[(2, 1), pytest.param((2, 2), marks=pytest.mark.long)],
    ids=["two", "two_of_two"],
)
def workers(request):
    return run(*request.param)


def test_training_is_that_of_one_device(one_device, workers):
    for name, expected in one_device.items():
        if name in ("read", "refused"):
            continue
        for worker in workers:
            for figure, values in expected.items():
                np.testing.assert_allclose(
                    worker[name][figure],
                    values,
                    rtol=1e-5,
                    atol=1e-5,
                    err_msg=f"{name}: {figure}",
                )


def test_each_worker_reads_its_own_elements_alone(workers):
    read = [worker["read"] for worker in workers]
    assert sorted(sum(read, [])) == list(range(70))
    assert [len(own) for own in read] == [35, 35]


def test_what_would_lose_elements_is_refused_on_every_worker(workers):
    for worker in workers:
        for kind, message in REFUSED.items():
            assert message in worker["refused"][kind]
