"""AdaScale and the noise scale over worker processes, as over replicas."""

import adascale
import numpy as np
import pytest
from places import SHARED

import tfdp

SCRIPT = SHARED / "adascale.py"
STEPS = (1, 4)

pytestmark = pytest.mark.multi_worker


@pytest.fixture(scope="module")
def reports():
    return tfdp.testing.run_workers(SCRIPT, 2, map(str, STEPS), timeout=300)


def test_all_workers_have_the_same_numbers(reports):
    assert reports[0] == reports[1]


@pytest.mark.sampled
@pytest.mark.parametrize("place", range(len(STEPS)))
def test_workers_have_the_numbers_of_replicas(reports, two_replicas, place):
    expected = adascale.trained(two_replicas, STEPS[place])
    found = reports[0][place]
    assert found["updates"] == expected["updates"] < 12
    for key in ("gains", "steps", "noise_scale"):
        np.testing.assert_allclose(found[key], expected[key], rtol=1e-4)
    for weights, others in zip(
        found["weights"], expected["weights"], strict=True
    ):
        np.testing.assert_allclose(weights, others, atol=1e-5)
