"""Files of unequal size, shared out between workers, are read once each."""

import math

import numpy as np
import pytest
from places import SHARED

import tfdp

pytestmark = pytest.mark.multi_worker
MANY = [5, 0, 13, 1, 8, 3, 21, 2, 2]
FEWER_THAN_WORKERS = [7, 18]
BATCH = 8


@pytest.fixture(
    scope="module",
    params=[
        (2, MANY),
        pytest.param((3, MANY), marks=pytest.mark.long),
        pytest.param((3, FEWER_THAN_WORKERS), marks=pytest.mark.long),
        pytest.param((2, [3, 0]), marks=pytest.mark.long),
    ],
    ids=lambda param: f"{len(param[1])} files on {param[0]} workers",
)
def found(request, tmp_path_factory):
    workers, counts = request.param
    folder = tmp_path_factory.mktemp("files")
    program = SHARED / "split_files.py"
    return counts, tfdp.testing.run_workers(
        program, workers, [str(folder), *map(str, counts)], timeout=600
    )


def samples_of(counts, way):
    every = range(1, sum(counts) + 1)
    return [n for n in every if way != "filtered" or n % 3 != 0]


@pytest.mark.long
def test_no_sample_is_lost_or_seen_twice(found):
    counts, workers = found
    for way, of_chief in workers[0].items():
        for epoch in range(len(of_chief["epochs"])):
            seen = [n for each in workers for n in each[way]["epochs"][epoch]]
            # Who has none left computes on a made-up row.
            assert sorted(filter(None, seen)) == samples_of(counts, way), way


def test_each_worker_reads_its_own_files_alone(found):
    counts, workers = found
    ends = np.cumsum(counts)
    for index, worker in enumerate(workers):
        own = [
            number
            for end, count in list(zip(ends, counts, strict=True))[
                index :: len(workers)
            ]
            for number in range(end - count + 1, end + 1)
        ]
        for epoch in worker["in order"]["epochs"]:
            assert sorted(filter(None, epoch)) == own


def test_epochs_end_together(found):
    counts, workers = found
    for way, of_chief in workers[0].items():
        steps = math.ceil(len(samples_of(counts, way)) / BATCH)
        for worker in workers:
            assert worker[way]["steps"] == of_chief["steps"]
            assert worker[way]["updates"] == sum(of_chief["steps"])
            np.testing.assert_array_equal(
                worker[way]["weights"], of_chief["weights"]
            )
        # Who has more than the others goes on with a share of each batch.
        assert all(steps <= each for each in of_chief["steps"])


def test_an_evaluation_counts_every_sample_once(found):
    counts, workers = found
    for way in workers[0]:
        numbers = np.array(samples_of(counts, way), "float64")
        for worker in workers:
            *kernel, bias = worker[way]["weights"]
            x = np.stack([np.sin(numbers), np.cos(numbers)], axis=1)
            expected = np.mean((x @ kernel + bias - numbers) ** 2)
            assert worker[way]["evaluated"] == pytest.approx(expected, rel=1e-5)
