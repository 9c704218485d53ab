"""Programs in the manner of Keras's examples equal one device, on two workers.

Starting workers takes as long as a program, so that one pair trains several.
"""

import re

import harness
import program
import pytest
from grids import of_this_run

import tfdp

PER_PAIR = 8
AT_ONCE = [
    "contrastive/siamese",
    "steps/half_precision",
]
WAY = "two workers"

pytestmark = [
    pytest.mark.multi_worker,
    pytest.mark.filterwarnings("ignore:Your input ran out of data"),
]


@pytest.fixture(scope="module")
def on_workers(request):
    """What two workers report of a program: a function of its name."""
    chosen, reports = of_this_run(request, "name"), {}

    def report_of(name):
        if name not in reports:
            start = chosen.index(name)
            reports.update(run(chosen[start : start + PER_PAIR]))
        if isinstance(reports[name], Exception):
            raise reports[name]
        return reports[name]

    return report_of


def run(names):
    """Returns each program's reports, or what has ended the workers."""
    script = harness.HERE / "on_workers.py"
    try:
        workers = tfdp.testing.run_workers(script, 2, names, timeout=600)
    except (RuntimeError, TimeoutError) as error:
        return dict.fromkeys(names, error)
    return {name: [worker[name] for worker in workers] for name in names}


@pytest.mark.parametrize("name", harness.parameters(WAY, AT_ONCE))
def test_two_workers_equal_one_device(name, on_workers):
    of = harness.load(name)
    said = of.differs.get(WAY)
    for report in on_workers(name):
        if isinstance(said, program.Refused):
            assert re.search(said.match, report["error"])
        else:
            assert "error" not in report, report["trace"]
            trained = harness.Trained(**report)
            harness.check(of, WAY, trained, harness.oracle(name))
