"""Whether all replicas have one model."""

import numpy as np


def check_alike(model):
    """Asserts that each weight is the same on every replica of this process."""
    strategy = model.distribute_strategy
    for variable in model.weights:
        first, *others = strategy.experimental_local_results(variable.value)
        for other in others:
            np.testing.assert_array_equal(other.numpy(), first.numpy())
