"""One all-reduce of the gradients per update, whatever the accumulation."""

import numpy as np
import pytest
from grids import later
from places import SHARED

import tfdp

SCRIPT = SHARED / "collectives.py"

pytestmark = pytest.mark.multi_worker


@pytest.fixture(scope="module", params=later(["few", "all"], ["few"]))
def reports(request):
    return tfdp.testing.run_workers(SCRIPT, 2, [request.param], timeout=400)


def test_gradients_travel_once_per_update(reports):
    for worker in reports:
        for step in (*worker["plain"], *worker["measured"]):
            assert step["updates"] == 4
            ((name, is_conditional, dtype),) = step["collectives"]
            assert dtype == "float32"
            assert "tfdp_all_reduce" in name
            # What a micro-batch may skip, as the update itself.
            assert is_conditional == (step["steps"] > 1)


def test_noise_is_measured_at_no_further_collective(reports):
    for worker in reports:
        plain, measured = worker["plain"], worker["measured"]
        assert not any(step["measured"] for step in plain)
        assert all(step["measured"] for step in measured)
        assert [len(step["collectives"]) for step in measured] == [
            len(step["collectives"]) for step in plain
        ]


def test_compressed_gradients_follow_their_weights(reports):
    for worker in reports:
        for step in worker["compressed"]:
            assert step["compression"] == "bfloat16"
            assert {
                conditional for _, conditional, _ in step["collectives"]
            } == {step["steps"] > 1}
            types = [dtype for _, _, dtype in step["collectives"]]
            assert types == ["float32", "bfloat16"]


def test_compressed_training_stays_close_and_equal_on_all_workers(reports):
    for place in (0, 1):
        exact = reports[0]["plain"][place]["weights"]
        first, second = (
            worker["compressed"][place]["weights"] for worker in reports
        )
        for ours, theirs, wanted in zip(first, second, exact, strict=True):
            np.testing.assert_array_equal(ours, theirs)
            np.testing.assert_allclose(ours, wanted, atol=5e-3)
        assert first != exact


def test_rows_of_an_embedding_are_compressed_too(reports):
    for worker in reports:
        exact, *rounded = map(np.array, worker["embedded"])
        assert rounded
        for weights in rounded:
            deviation = np.abs(weights - exact).max()
            assert 0 < deviation <= 1e-3


def test_buffers_are_sent_in_large_chunks(reports):
    assert [worker["chunk"] for worker in reports] == [64 * 1024] * 2
