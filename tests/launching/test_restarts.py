import math

import pytest

from tfdp.launching import Restarts


def test_pauses_grow_up_to_the_longest():
    restarts = Restarts(2000)
    pauses = [restarts.plan(1, now=0.0) for _ in range(2000)]
    assert pauses[:7] == [1, 2, 4, 8, 16, 30, 30]
    assert pauses[-1] == 30
    assert restarts.plan(1, now=0.0) is None
    # Each worker has restarts of its own.
    assert restarts.plan(2, now=0.0) == 1


def test_a_worker_is_due_once_its_pause_is_over():
    restarts = Restarts(3, first_pause=5.0)
    restarts.plan(2, now=10.0)
    restarts.plan(1, now=11.0)
    assert (restarts.waiting, restarts.due(14.9)) == ([1, 2], [])
    assert (restarts.due(15.0), restarts.waiting) == ([2], [1])
    assert restarts.due(100.0) == [1]
    assert restarts.due(100.0) == restarts.waiting == []
    assert restarts.counts == {1: 1, 2: 1}


def test_none_is_started_again_where_none_may_be():
    restarts = Restarts(0)
    assert restarts.plan(1, now=0.0) is None
    assert (restarts.waiting, restarts.counts) == ([], {})


def test_a_restart_that_was_called_off_does_not_count():
    restarts = Restarts(3)
    restarts.plan(1, now=0.0)
    restarts.due(1.0)
    restarts.plan(1, now=2.0)
    assert restarts.cancel() == [1]
    assert (restarts.waiting, restarts.counts) == ([], {1: 1})
    assert restarts.cancel() == []


@pytest.mark.parametrize("most", [-1, 1.5, True, "2", None, math.nan])
def test_restarts_are_counted(most):
    with pytest.raises((TypeError, ValueError), match="`max_restarts` must"):
        Restarts(most)


@pytest.mark.parametrize("name", ["first_pause", "longest_pause"])
@pytest.mark.parametrize("seconds", [0, -1.0, math.inf, "1"])
def test_a_pause_takes_time(name, seconds):
    with pytest.raises((TypeError, ValueError), match=f"Received: {name}="):
        Restarts(1, **{name: seconds})
