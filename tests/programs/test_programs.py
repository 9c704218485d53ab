"""Programs in the manner of Keras's examples equal one device, in each way."""

import re

import harness
import numpy as np
import program
import pytest

import tfdp

WAYS = {"two replicas": (2, 1), "accumulating": (2, 2)}
PER_PAIR = 8

# 2026-11: plain Keras says so of every dataset of unknown length.
pytestmark = pytest.mark.filterwarnings("ignore:Your input ran out of data")


def parameters(ways):
    return [
        pytest.param(
            name,
            way,
            id=f"{name}-{way.replace(' ', '-')}",
            marks=[pytest.mark.long] if harness.load(name).is_long else [],
        )
        for name in harness.NAMES
        for way in ways
    ]


def distributed(way):
    replicas, steps = WAYS[way]
    devices = [f"CPU:{i}" for i in range(replicas)]
    return program.Distributed(tfdp.MirroredStrategy(devices), steps)


@pytest.mark.parametrize(("name", "way"), parameters(["one device"]))
def test_one_device_learns(name, way):
    harness.check_learning(harness.load(name), harness.oracle(name))


@pytest.mark.parametrize(("name", "way"), parameters(WAYS))
def test_a_program_equals_one_device(name, way):
    of = harness.load(name)
    said = of.differs.get(way)
    if isinstance(said, program.Refused):
        check_refusal(of, distributed(way), said.match)
    elif isinstance(said, program.Found):
        check_finding(of, distributed(way), said.match)
    else:
        trained = harness.train(of, distributed(way))
        check(of, WAYS[way][1], said, trained, harness.oracle(name))


def check(of, steps, said, trained, expected):
    if said is None:
        harness.compare(of, steps, trained, expected)
    else:
        harness.check_learning(of, trained)
        assert trained.updates == expected.updates


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


@pytest.fixture(scope="module")
def on_workers(request):
    """What two workers report of each of the programs that are asked for."""
    chosen = [
        item.callspec.params["name"]
        for item in request.session.items
        if item.path == request.path and "on_workers" in item.fixturenames
    ]
    reports = {}

    def report_of(name):
        if name not in reports:
            reports.update(run_with(name, chosen))
        return reports[name]

    return report_of


def run_with(name, chosen):
    """Runs a program on two workers, with others that are next to it."""
    at = chosen.index(name)
    names = chosen[at : at + PER_PAIR]
    script = harness.HERE / "on_workers.py"
    workers = tfdp.testing.run_workers(script, 2, names, timeout=400)
    return {each: [worker[each] for worker in workers] for each in names}


@pytest.mark.multi_worker
@pytest.mark.parametrize(("name", "way"), parameters(["two workers"]))
def test_two_workers_equal_one_device(name, way, on_workers):
    of = harness.load(name)
    said = of.differs.get(way)
    for report in on_workers(name):
        if isinstance(said, program.Refused):
            assert re.search(said.match, report["error"])
        elif not isinstance(said, program.Found):
            assert "error" not in report, report["trace"]
            trained = harness.Trained(**report)
            check(of, 1, said, trained, harness.oracle(name))
