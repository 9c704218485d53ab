"""What tests of owners share: which kinds at once, and when they are equal."""

import re

import grids
import pytest
from problem import deviation
from sharded_state import of_replicas

# Those whose way through the owners differs; the others are left for later.
AT_ONCE = ["Nadam", "Adafactor", "Adam, averaged"]
LATER_WITHOUT = pytest.param(False, marks=pytest.mark.long)


def later(kinds, at_once=AT_ONCE):
    return grids.later(kinds, at_once)


def assert_equals(strategy, model, plain, to=1e-6):
    expected = plain.get_weights()
    for actual in of_replicas(strategy, model.weights):
        assert deviation(actual, expected) <= to
    inner = model.optimizer.inner_optimizer
    assert names(inner) == names(plain.optimizer)
    state, expected = (
        [v.numpy() for v in optimizer.variables]
        for optimizer in (inner, plain.optimizer)
    )
    assert deviation(state, expected) <= 10 * to


def names(optimizer):
    """Without the optimizer's own, and without Keras's numbers."""
    last = [v.path.rpartition("/")[2] for v in optimizer.variables]
    return [re.sub(r"_\d+$", "", name) for name in last]


def built(model, strategy):
    with strategy.scope():
        model.optimizer.build(model.trainable_variables)
    return model
