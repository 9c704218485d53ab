import signal

import pytest

from tfdp.launching.blame import Blame

KILL, ABORT = -signal.SIGKILL, -signal.SIGABRT


def culprit(*looks):
    """The first found, of looks `(now, return codes, stopped)`."""
    blame = Blame()
    for now, codes, *stopped in looks:
        found = blame.look(now, dict(enumerate(codes)), *stopped)
        if found:
            return found.worker, found.returncode, now
    return None


def test_nobody_is_blamed_while_all_run_or_end_well():
    assert culprit((0, [None, None]), (1, [None, 0]), (2, [0, 0])) is None


def test_failure_is_judged_after_half_a_second():
    looks = [(0, [None, 3]), (0.4, [None, 3]), (0.5, [None, 3])]
    assert culprit(*looks) == (1, 3, 0.5)


def test_a_killed_one_is_judged_after_a_tenth_of_a_second():
    looks = [(0, [None, KILL]), (0.09, [None, KILL]), (0.1, [1, KILL])]
    assert culprit(*looks) == (1, KILL, 0.1)


def test_failure_is_judged_at_once_when_all_have_ended():
    assert culprit((0, [0, 3])) == (1, 3, 0)


@pytest.mark.parametrize(
    "later",
    [[1, None, KILL], [1, 1, KILL], [1, ABORT, KILL], [ABORT, 1, KILL]],
)
def test_killed_one_is_blamed_before_those_that_fail_because_of_it(later):
    first = [code if code != KILL else None for code in later]
    assert culprit((0, first), (0.4, later), (0.5, later))[:2] == (2, KILL)


def test_killed_one_is_blamed_before_a_stopped_one():
    looks = [(0, [None, KILL], [0]), (0.5, [None, KILL], [0])]
    assert culprit(*looks)[:2] == (1, KILL)


def test_first_of_two_killed_ones_is_blamed():
    assert culprit((0, [None, -11]), (0.1, [KILL, -11]))[:2] == (1, -11)


def test_stopped_one_is_blamed_before_those_that_fail_because_of_it():
    looks = [(0, [1, None]), (0.3, [1, None], [1]), (0.5, [1, None], [1])]
    assert culprit(*looks)[:2] == (1, -signal.SIGSTOP)


def test_one_that_goes_on_in_time_is_not_blamed():
    looks = [(0.1 * i, [None, None], [1]) for i in range(29)]
    looks += [(2.9, [None, None], [])]
    looks += [(3 + 0.1 * i, [None, None], [1]) for i in range(29)]
    assert culprit(*looks) is None


def test_one_stopped_for_three_seconds_has_failed():
    looks = [(0.5 * i, [None, None], [1]) for i in range(10)]
    assert culprit(*looks) == (1, -signal.SIGSTOP, 3.0)


def test_nobody_is_blamed_when_the_launcher_was_stopped_as_well():
    looks = [(0, [None], [0]), (60, [None], [0]), (60.5, [None], [])]
    assert culprit(*looks) is None


def test_later_failure_is_not_blamed():
    looks = [(0, [None, 3]), (0.2, [ABORT, 3])]
    assert culprit(*looks) == (1, 3, 0.2)


def test_lowest_index_is_blamed_of_those_that_fail_together():
    assert culprit((0, [0, 4, 3])) == (1, 4, 0)


def test_abort_is_blamed_before_an_error_at_the_same_look():
    assert culprit((0, [1, ABORT])) == (1, ABORT, 0)
