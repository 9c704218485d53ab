"""What is split goes on where it was, on any number of workers."""

import numpy as np
import pytest
from grids import later, of_this_run
from places import SHARED

import tfdp

pytestmark = [pytest.mark.multi_worker, pytest.mark.long]
PROGRAM = SHARED / "split_resumed.py"
COMPUTED = ["shuffled range", "shuffled dataset"]


@pytest.fixture(scope="module")
def rest_and_whole(request, tmp_path_factory):
    names = {*COMPUTED, *of_this_run(request, "data")}

    def run(workers, folder, part):
        arguments = str(folder), part, *sorted(names)
        return tfdp.testing.run_workers(
            PROGRAM, workers, arguments, timeout=500
        )

    parts = tmp_path_factory.mktemp("parts")
    run(2, parts, "first")
    (whole, _) = run(2, tmp_path_factory.mktemp("whole"), "whole")
    return run(3, parts, "rest"), whole


@pytest.mark.parametrize(
    "data", later([*COMPUTED, "rows in their order", "arrays"], COMPUTED)
)
def test_two_workers_and_then_three_are_as_two(rest_and_whole, data):
    rest, whole = rest_and_whole
    for worker in rest:
        np.testing.assert_allclose(
            worker[data]["weights"],
            whole[data]["weights"],
            rtol=1e-5,
            atol=1e-6,
        )


def test_nothing_is_read_again_where_the_order_is_computed(
    rest_and_whole,
):
    rest, _ = rest_and_whole
    # Of 37 samples in batches of 8: killed in the third of the second epoch.
    left = 2 * 37 - 2 * 8
    computed = [worker["shuffled range"]["read"] for worker in rest]
    assert sum(computed) == left
    again = [worker["shuffled dataset"]["read"] for worker in rest]
    assert sum(again) == 2 * 37
