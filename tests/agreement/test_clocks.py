"""How far the clocks of workers are known to differ."""

import numpy as np
import pytest

from tfdp.agreement.clocks import _differences


@pytest.mark.parametrize("seed", range(20))
def test_the_true_difference_lies_within_the_error(seed):
    random = np.random.default_rng(seed)
    ahead = np.array([0, 5e6, -3e-3, 0.25])[:, np.newaxis]
    entered = np.arange(16) + random.exponential(1e-3, (4, 16))
    # Nobody leaves before all have entered.
    left = entered.max(axis=0) + random.exponential(1e-3, (4, 16))
    offsets, errors = _differences(entered + ahead, left + ahead)
    assert (offsets[0], errors[0]) == (0, 0)
    wrong = np.abs(np.array(offsets) - ahead[:, 0])
    assert (wrong <= np.array(errors) + 1e-9).all()
    assert max(errors) < 2e-3
