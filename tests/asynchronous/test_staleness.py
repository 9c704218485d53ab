"""Who may read and who may update: never too stale, nobody stuck."""

import collections
import concurrent.futures
import random
import threading
import time

import numpy as np
import pytest

from tfdp.asynchronous.staleness import Lost, Staleness

BOUNDS = [0, 1, 2, 3, 7, 8, 30]
WORKERS = 8


class Life:
    """A worker of random speed, which may die anywhere, and come back."""

    def __init__(self, staleness, worker, rng, *, steps=20):
        self.staleness, self.worker, self.rng = staleness, worker, rng
        self.steps, self.done = steps, 0
        self.deaths = sorted(
            rng.sample(range(steps), rng.choice([0, 0, 1, 3])), reverse=True
        )

    def __call__(self):
        self.staleness.join(self.worker)
        while self.done < self.steps:
            self.staleness.read(self.worker)
            time.sleep(self.rng.random() * 0.001 * (1 + 3 * (self.worker == 0)))
            if self.deaths and self.deaths[-1] == self.done:
                self.deaths.pop()
                self.staleness.lose(self.worker)
                if not self.deaths and self.rng.random() < 0.5:
                    return
                self.staleness.join(self.worker)
            elif self.rng.random() < 0.1:
                self.staleness.release(self.worker)
            else:
                self.staleness.update(self.worker, step=self.done)
                self.done += 1


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("bound", BOUNDS)
def test_no_update_is_too_stale_and_nobody_is_stuck(bound, seed):
    staleness = Staleness(bound)
    lives = [
        Life(staleness, worker, random.Random(seed * 100 + worker))
        for worker in range(WORKERS)
    ]
    threads = [threading.Thread(target=life, daemon=True) for life in lives]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads), staleness.readers
    log = staleness.log
    assert [update.applied for update in log] == list(range(staleness.version))
    assert len(log) == sum(life.done for life in lives)
    assert all(0 <= update.staleness <= bound for update in log)
    for life in lives:
        own = [u for u in log if u.worker == life.worker]
        assert [update.step for update in own] == list(range(life.done))
        expected = collections.Counter(update.staleness for update in own)
        assert staleness.histograms()[life.worker] == expected
    assert staleness.readers == []


@pytest.mark.parametrize("bound", BOUNDS)
def test_the_bound_is_reached(bound):
    staleness = Staleness(bound)
    for worker in range(bound + 1):
        staleness.join(worker)
        assert staleness.read(worker) == 0
    for worker in range(bound + 1):
        assert staleness.update(worker, step=0) == worker
    assert [update.staleness for update in staleness.log] == [*range(bound + 1)]


@pytest.fixture
def threads():
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        yield pool


def waits(staleness, what):
    """Waits until a call has begun to wait, and says that it does."""
    with pytest.raises(concurrent.futures.TimeoutError):
        what.result(0.05)
    return True


def joined(bound, *workers, **kwargs):
    staleness = Staleness(bound, **kwargs)
    for worker in workers:
        staleness.join(worker)
    return staleness


def test_a_read_beyond_the_bound_waits_for_an_update(threads):
    staleness = joined(0, 0, 1)
    staleness.read(0)
    second = threads.submit(staleness.read, 1)
    assert waits(staleness, second)
    staleness.update(0, step=0)
    assert second.result(10) == 1


def test_an_update_waits_for_the_oldest_read(threads):
    staleness = joined(2, 0, 1)
    staleness.read(0)
    for step in range(2):
        staleness.read(1)
        staleness.update(1, step=step)
    staleness.read(1)
    third = threads.submit(staleness.update, 1, step=2)
    assert waits(staleness, third)
    assert staleness.update(0, step=0) == 2
    assert third.result(10) == 3
    assert [update.staleness for update in staleness.log] == [0, 0, 2, 1]


def test_a_lost_read_makes_room_at_once(threads):
    staleness = joined(0, 0, 1)
    staleness.read(0)
    second = threads.submit(staleness.read, 1)
    assert waits(staleness, second)
    staleness.lose(0)
    assert second.result(10) == 0
    with pytest.raises(Lost, match="worker 0"):
        staleness.update(0, step=0)
    with pytest.raises(Lost, match="worker 0"):
        staleness.read(0)


@pytest.mark.parametrize("again", [False, True])
def test_who_is_lost_while_it_waits_waits_no_more(threads, again):
    staleness = joined(0, 0, 1)
    staleness.read(0)
    second = threads.submit(staleness.read, 1)
    assert waits(staleness, second)
    staleness.lose(1)
    if again:
        staleness.join(1)
    with pytest.raises(Lost):
        second.result(10)
    if again:
        # Its own turn is not that of the thread before.
        third = threads.submit(staleness.read, 1)
        assert waits(staleness, third)
        staleness.update(0, step=0)
        assert third.result(10) == 1


def test_who_joins_anew_has_read_nothing():
    staleness = joined(0, 0)
    staleness.read(0)
    staleness.join(0)
    with pytest.raises(RuntimeError, match="must read weights before"):
        staleness.update(0, step=0)
    assert staleness.read(0) == 0


def test_reads_are_given_in_the_order_of_asking(threads):
    staleness = joined(0, *range(5))
    staleness.read(4)
    reads = []
    for worker in (2, 0, 3, 1):
        reads.append(threads.submit(staleness.read, worker))
        assert waits(staleness, reads[-1])
    staleness.release(4)
    for worker, read in zip((2, 0, 3, 1), reads, strict=True):
        read.result(10)
        staleness.update(worker, step=0)
    assert [update.worker for update in staleness.log] == [2, 0, 3, 1]


def test_an_update_that_fails_is_none():
    staleness = joined(0, 0)
    staleness.read(0)
    with pytest.raises(ZeroDivisionError):
        staleness.update(0, step=0, apply=lambda: 1 / 0)
    assert (staleness.version, staleness.log) == (0, [])


def test_seconds_of_waiting_are_counted_by_worker(threads):
    now = [0.0]
    staleness = joined(0, 0, 1, clock=lambda: now[0])
    staleness.read(0)
    second = threads.submit(staleness.read, 1)
    assert waits(staleness, second)
    now[0] = 5.0
    staleness.update(0, step=0)
    second.result(10)
    assert staleness.waited() == {
        0: {"read": 0.0, "update": 0.0},
        1: {"read": 5.0, "update": 0.0},
    }


def test_what_gradients_take_is_counted_without_waiting(threads):
    now = [0.0]
    staleness = joined(1, 0, 1, clock=lambda: now[0])
    staleness.read(0)
    staleness.read(1)
    now[0] = 2.0
    staleness.update(1, step=0)
    staleness.read(1)
    now[0] = 3.0
    second = threads.submit(staleness.update, 1, step=1)
    assert waits(staleness, second)
    now[0] = 7.0
    staleness.update(0, step=0)
    second.result(10)
    assert staleness.computed() == {0: 7.0, 1: 2.0 + 1.0}
    assert staleness.waited_by(1) == 4.0
    staleness.read(0)
    now[0] = 9.0
    staleness.release(0)
    assert staleness.computed()[0] == 7.0


def test_nobody_updates_while_weights_are_copied():
    staleness = joined(3, 0)
    assert staleness.read(0, then=lambda: None) == 0
    assert staleness.alone(lambda: staleness.version) == 0


def test_training_goes_on_at_a_version():
    staleness = joined(1, 0)
    staleness.start_at(7)
    assert staleness.read(0) == 7
    with pytest.raises(RuntimeError, match=r"reads of workers \[0\]"):
        staleness.start_at(9)


def test_updates_of_weights_that_are_left_are_forgotten():
    staleness = joined(1, 0)
    for step in range(3):
        staleness.read(0)
        staleness.update(0, step=step)
    staleness.start_at(1)
    assert staleness.log == [(0, 0, 0, 0)]
    assert staleness.histograms() == {0: {0: 1}}
    staleness.start_at(5)
    assert staleness.log == [(0, 0, 0, 0)]
    staleness.start_at(0)
    assert staleness.log == []


def test_who_has_read_does_not_read_again():
    staleness = joined(3, 0)
    staleness.read(0)
    with pytest.raises(RuntimeError, match="has read version 0"):
        staleness.read(0)


@pytest.mark.parametrize("bound", [-1, 1.0, "4", True, None])
def test_a_bound_is_an_integer_of_at_least_zero(bound):
    with pytest.raises(ValueError, match=f"max_staleness={bound!r}"):
        Staleness(bound)


def test_a_bound_may_be_an_integer_of_numpys():
    bound = Staleness(np.int64(3)).bound
    assert (bound, type(bound)) == (3, int)


def test_a_bound_has_64_bits():
    with pytest.raises(ValueError, match="`max_staleness` must be at most"):
        Staleness(10**30)
