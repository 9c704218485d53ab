"""Programs in the manner of Keras's examples equal one device, in each way."""

import re

import harness
import numpy as np
import program
import pytest

import tfdp

WAYS = {"two replicas": (2, 1), "accumulating": (2, 2)}

# 2026-11: plain Keras says so of every dataset of unknown length.
pytestmark = pytest.mark.filterwarnings("ignore:Your input ran out of data")


def distributed(way):
    replicas, steps = WAYS[way]
    devices = [f"CPU:{i}" for i in range(replicas)]
    return program.Distributed(tfdp.MirroredStrategy(devices), steps)


@pytest.mark.long
@pytest.mark.parametrize("name", harness.parameters())
def test_one_device_learns(name):
    harness.check_learning(harness.load(name), harness.oracle(name))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", harness.parameters())
def test_a_program_equals_one_device(name, way):
    of = harness.load(name)
    said = of.differs.get(way)
    if isinstance(said, program.Refused):
        check_refusal(of, distributed(way), said.match)
    elif isinstance(said, program.Found):
        check_finding(of, distributed(way), said.match)
    else:
        trained = harness.train(of, distributed(way))
        harness.check(of, way, trained, harness.oracle(name))


def check_refusal(of, way, match):
    model = harness.make(of, way)
    before = model.get_weights()
    with pytest.raises((RuntimeError, ValueError), match=match):
        harness.fit(of, way, model)
    for old, new in zip(before, model.get_weights(), strict=False):
        np.testing.assert_array_equal(new, old)


def check_finding(of, way, match):
    model = harness.make(of, way)
    found = tfdp.audit(model, of.data(of.batch // way.steps)["x"])
    assert re.search(match, str(found)), found
