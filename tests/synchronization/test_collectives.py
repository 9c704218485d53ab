"""One all-reduce of the gradients per update, whatever the accumulation."""

import numpy as np
import pytest
from places import SHARED

import tfdp

SCRIPT = SHARED / "collectives.py"

pytestmark = pytest.mark.multi_worker


@pytest.fixture(scope="module")
def reports():
    return tfdp.testing.run_workers(SCRIPT, 2, timeout=400)


def test_gradients_travel_once_per_update(reports):
    for worker in reports:
        for step in worker[:6]:
            assert step["updates"] == 4
            ((name, is_conditional, dtype),) = step["collectives"]
            assert dtype == "float32"
            assert "tfdp_all_reduce" in name
            # What a micro-batch may skip, as the update itself.
            assert is_conditional == (step["steps"] > 1)


def test_noise_is_measured_at_no_further_collective(reports):
    for worker in reports:
        assert [step["measured"] for step in worker[:6]] == [False] * 3 + [
            True
        ] * 3
        plain, measured = worker[:3], worker[3:6]
        assert [len(step["collectives"]) for step in measured] == [
            len(step["collectives"]) for step in plain
        ]


def test_compressed_gradients_follow_their_weights(reports):
    for worker in reports:
        for step in worker[6:8]:
            assert step["compression"] == "bfloat16"
            assert {
                conditional for _, conditional, _ in step["collectives"]
            } == {step["steps"] > 1}
            types = [dtype for _, _, dtype in step["collectives"]]
            assert types == ["float32", "bfloat16"]


def test_compressed_training_stays_close_and_equal_on_all_workers(reports):
    for exact, rounded in ((0, 6), (1, 7)):
        first, second = (worker[rounded]["weights"] for worker in reports)
        for ours, theirs, wanted in zip(
            first, second, reports[0][exact]["weights"], strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)
            np.testing.assert_allclose(ours, wanted, atol=5e-3)
        assert first != reports[0][exact]["weights"]


def test_rows_of_an_embedding_are_compressed_too(reports):
    for worker in reports:
        exact, *rounded = map(np.array, worker[8]["embedded"])
        assert len(rounded) == 2
        for weights in rounded:
            deviation = np.abs(weights - exact).max()
            assert 0 < deviation <= 1e-3


def test_buffers_are_sent_in_large_chunks(reports):
    assert [worker[8]["chunk"] for worker in reports] == [64 * 1024] * 2
