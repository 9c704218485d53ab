"""Each worker computes its own items, and all train as one device does."""

import collections
import functools
import warnings

import keras
import numpy as np
import pytest
from grids import later
from places import SHARED

import tfdp

pytestmark = pytest.mark.multi_worker
REFUSED = {
    "on its own": "`on_epoch_end` has left `rng`, `order` not the same",
    "length": "numbers of items, by worker: ",
    "types": "same structure. Received: ",
    "predict": "`predict` returns its rows in the order",
    "others": "split between the workers that train on it",
    "twice": "a PyDataset that `tfdp.shard` was applied to before",
}
PROGRAM = SHARED / "split_items.py"
EPOCHS, MICRO_BATCH, SAMPLES = 3, 12, 70
AT_ONCE = ("plain", "one sample", "validated", "begins")
NOT_FIGURES = ("computed", "shuffled", "refused", "begins", "told")


def told_of_what_items_begin_with():
    strategy = tfdp.auto_strategy()

    class Items(keras.utils.PyDataset):
        def __init__(self):
            super().__init__()
            self.order = np.arange(4) + strategy.worker_index
            self.same = [1, 2]

        def __len__(self):
            return 4

        def __getitem__(self, index):
            return np.ones((1, 2)), np.ones((1, 1))

    with strategy.scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        sgd = keras.optimizers.SGD(0.1)
        model.compile(tfdp.DistributedOptimizer(sgd), "mse")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.evaluate(tfdp.shard(Items()), verbose=0)
    return [str(warning.message) for warning in caught]


def test_items_that_begin_otherwise_are_told_of_on_every_worker():
    for told in tfdp.testing.run_workers(
        told_of_what_items_begin_with, 2, timeout=300
    ):
        assert [m for m in told if "Received: `order` not the same on" in m]


def run(workers, replicas, *ways):
    return tfdp.testing.run_workers(
        PROGRAM, workers, [str(replicas), *ways], timeout=600
    )


CASES = {
    "few ways": (2, 1, *AT_ONCE),
    "two": (2, 1),
    "three": (3, 1),
    "two_of_two": (2, 2),
}


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
        (found,) = run(1, 1, *ways)
        return found

    return found


@pytest.fixture
def one_device(case, of_one_device):
    return of_one_device(*case[2:])


def test_training_is_that_of_one_device(one_device, workers):
    for name, expected in one_device.items():
        if name in NOT_FIGURES:
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


def test_each_worker_computes_its_own_items_alone_once_per_epoch(
    one_device, workers
):
    items = -(-SAMPLES // (MICRO_BATCH // len(workers)))
    # Keras has looked at those of two steps before the first epoch.
    by_step = collections.Counter(one_device["computed"])
    assert [by_step[step] for step in range(6)] == [4, 4, 3, 3, 3, 3]
    for index, worker in enumerate(workers):
        own = range(items)[index :: len(workers)]
        expected = {item: by_step[item // len(workers)] for item in own}
        assert collections.Counter(worker["computed"]) == expected


def test_one_that_is_not_split_is_told_of_once_by_the_chief(
    one_device, workers
):
    assert one_device["told"]["of shard"] == 0
    told = [worker["told"]["of shard"] for worker in workers]
    assert told == [1] + [0] * (len(workers) - 1)


def test_steps_are_shuffled_and_their_items_stay_together(workers):
    steps = [
        sum(of_step, [])
        for of_step in zip(
            *(worker["shuffled"] for worker in workers), strict=True
        )
    ]
    in_order = [
        list(map(float, range(first, first + MICRO_BATCH)))
        for first in range(0, 72, MICRO_BATCH)
    ]
    first, second = steps[:6], steps[6:]
    assert sorted(map(sorted, first)) == sorted(map(sorted, second)) == in_order
    assert in_order != first != second


def test_the_methods_of_each_epoch_are_called_as_on_one_device(
    one_device, workers
):
    assert one_device["begins"]["begun"] > EPOCHS
    for worker in workers:
        assert worker["begins"] == one_device["begins"]


def test_what_would_lose_items_is_refused_on_every_worker(workers):
    for worker in workers:
        for kind, message in REFUSED.items():
            assert message in worker["refused"][kind]
