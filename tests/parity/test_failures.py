"""A worker that fails ends the job soon, and a restart loses nothing."""

import failures
import pytest
from failures import Case
from grids import later

pytestmark = pytest.mark.multi_worker

COVERING = [
    Case("SIGKILL", 0, "saving"),
    Case("SIGSTOP", 1, "step"),
    Case("exception", 1, "validation"),
    Case("early end", 0, "step"),
    Case("SIGTERM", 1, "step"),
]
# What the launcher must say, of worker {0}.
SAID = {
    "SIGKILL": ["Worker {0} was killed by SIGKILL"],
    "SIGSTOP": ["Worker {0} has been stopped (SIGSTOP)"],
    "exception": ["Worker {0} failed with", "a worker's own mistake"],
    "early end": ["Lost worker {0} ("],
    "SIGTERM": ["failed with exit code 143"],
    "missing peer": ["there within 6 seconds", "from worker {0} at 127.0.0.1"],
    "port in use": ["Worker {0} failed with", "listen on its own port"],
}


@pytest.fixture(scope="module")
def undisturbed():
    return failures.undisturbed()


def check(case, undisturbed):
    result = failures.result_of(case)
    assert result.seconds < 10
    assert result.left == 0
    for said in SAID[case.fault]:
        assert said.format(case.worker) in result.message
    # The others need not see the folder.
    assert result.folders == ([] if case.phase == "start" else ["backups-0"])
    assert failures.deviation(result.weights, undisturbed) == 0


@pytest.mark.parametrize("case", later(COVERING, []), ids=str)
def test_it_is_named_within_ten_seconds_and_no_step_is_lost(case, undisturbed):
    check(case, undisturbed)


@pytest.mark.long
@pytest.mark.parametrize("worker", [0, pytest.param(1, marks=pytest.mark.long)])
def test_a_worker_that_ends_before_the_other_does_not_fail_it(
    worker, undisturbed, tmp_path
):
    failure, output = failures.run(tmp_path, str(worker), "end", "none")
    assert failure is None, output
    assert "the other one has ended" in output
    assert failures.deviation(failures.weights_in(tmp_path), undisturbed) == 0


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
