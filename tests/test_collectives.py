"""One all-reduce of the gradients per update, whatever the accumulation."""

import pathlib

import pytest

import tfdp

SCRIPT = pathlib.Path(__file__).parent / "workers" / "collectives.py"

pytestmark = pytest.mark.multi_worker


@pytest.fixture(scope="module")
def reports():
    # TensorFlow's profiler crashes now and then.
    for _ in range(4):
        try:
            return tfdp.testing.run_workers(SCRIPT, 2, timeout=400)
        except RuntimeError as error:
            if "SIGSEGV" not in str(error):
                raise
            crash = error
    raise crash


def test_gradients_travel_once_per_update(reports):
    for worker in reports:
        assert [epoch["steps"] for epoch in worker] == [1, 2, 4]
        assert [epoch["updates"] for epoch in worker] == [4, 4, 4]
        assert [epoch["gradients"] for epoch in worker] == [4, 4, 4]


def test_kerass_own_and_the_inputs_travel_at_every_micro_batch(reports):
    """Else the count above would prove nothing of how steps are told apart."""
    for worker in reports:
        for epoch in worker:
            # The vote on whether there is data, and the mean of the loss.
            assert epoch["others"] >= 2 * 4 * epoch["steps"]
