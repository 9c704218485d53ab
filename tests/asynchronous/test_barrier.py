"""All that live meet, and are told the same."""

import concurrent.futures

import pytest

from tfdp.asynchronous.serving.barrier import Barrier
from tfdp.asynchronous.staleness import Lost


@pytest.fixture
def threads():
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.fixture
def barrier():
    barrier = Barrier(dict)
    for worker in range(3):
        barrier.join(worker)
    return barrier


def waits(*futures):
    for future in futures:
        with pytest.raises(concurrent.futures.TimeoutError):
            future.result(0.05)
    return True


def test_all_are_told_what_all_have_brought(barrier, threads):
    for key in ("a", "b", "c"):
        came = [threads.submit(barrier.meet, w, key, w) for w in range(2)]
        assert waits(*came)
        came.append(threads.submit(barrier.meet, 2, key, 2))
        assert [f.result(10) for f in came] == [{0: 0, 1: 1, 2: 2}] * 3


@pytest.mark.parametrize("had_come", [False, True])
def test_nobody_waits_for_the_lost(barrier, threads, had_come):
    came = [threads.submit(barrier.meet, 0, "a", 0)]
    if had_come:
        dead = threads.submit(barrier.meet, 1, "a", 1)
        assert waits(dead)
        barrier.lose(1)
        with pytest.raises(Lost, match="worker 1"):
            dead.result(10)
    assert waits(*came)
    came.append(threads.submit(barrier.meet, 2, "a", 2))
    barrier.lose(1)
    assert [f.result(10) for f in came] == [{0: 0, 2: 2}] * 2
    with pytest.raises(Lost):
        barrier.meet(1, "b")


def test_who_joins_later_is_not_waited_for_but_told(barrier, threads):
    came = [threads.submit(barrier.meet, 0, "a", 0)]
    assert waits(*came)
    barrier.join(3)
    barrier.lose(1)
    barrier.join(1)
    came.append(threads.submit(barrier.meet, 1, "a", 1))
    assert waits(*came)
    came.append(threads.submit(barrier.meet, 2, "a", 2))
    assert [f.result(10) for f in came] == [{0: 0, 1: 1, 2: 2}] * 3
    assert barrier.meet(3, "a", 3) == {0: 0, 1: 1, 2: 2}


def test_an_error_is_everybodys(threads):
    barrier = Barrier(lambda brought: 1 / 0)
    barrier.join(0)
    barrier.join(1)
    came = [threads.submit(barrier.meet, w, "a") for w in range(2)]
    for future in came:
        with pytest.raises(ZeroDivisionError):
            future.result(10)
