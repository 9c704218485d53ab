"""A worker that fails ends the job soon, and a restart loses nothing."""

import failures
import pytest
from failures import Case

pytestmark = pytest.mark.multi_worker

COVERING = [
    Case("SIGKILL", 0, "saving"),
    Case("SIGSTOP", 1, "step"),
    Case("exception", 1, "validation"),
    Case("early end", 0, "step"),
    Case("SIGTERM", 1, "step"),
    Case("missing peer", 1, "start"),
    Case("port in use", 0, "start"),
]
# What must be said of the worker, besides its number.
SAID = {
    "SIGKILL": "was killed by SIGKILL",
    "SIGSTOP": "stopped (SIGSTOP)",
    "exception": "a worker's own mistake",
    "early end": "Lost worker",
    "SIGTERM": "exit code 143",
    "missing peer": "Every worker must be there within 6 seconds",
    "port in use": "must be able to listen on its own port",
}


@pytest.fixture(scope="module")
def undisturbed():
    return failures.undisturbed()


def check(case, undisturbed):
    result = failures.result_of(case)
    assert result.seconds < 10
    assert result.left == 0
    said = result.message + result.output
    assert SAID[case.fault] in said, said
    if case.fault != "SIGTERM":
        assert f"orker {case.worker}" in said, said
    # The others need not see the folder.
    assert result.folders == ([] if case.phase == "start" else ["backups-0"])
    assert failures.deviation(result.weights, undisturbed) == 0


@pytest.mark.parametrize("case", COVERING, ids=str)
def test_it_is_named_within_ten_seconds_and_no_step_is_lost(case, undisturbed):
    check(case, undisturbed)


@pytest.mark.long
@pytest.mark.parametrize(
    "case", [c for c in failures.CASES if c not in COVERING], ids=str
)
def test_every_failure_is_survived(case, undisturbed):
    check(case, undisturbed)


@pytest.mark.long
def test_twenty_kills_of_random_workers_change_nothing():
    undisturbed = failures.undisturbed(*failures.SLOW)
    kills, starts, weights = failures.soak(20)
    assert kills == 20
    assert starts > kills
    assert failures.deviation(weights, undisturbed) == 0
