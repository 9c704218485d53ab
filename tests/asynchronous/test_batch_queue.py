"""Each batch of an epoch is done once, whoever dies."""

import collections
import concurrent.futures
import random
import threading
import time

import pytest

from tfdp.asynchronous.batch_queue import BatchQueue
from tfdp.asynchronous.position import Position
from tfdp.asynchronous.staleness import Lost

EPOCHS = 3


class Reader:
    """A worker that takes ahead, is of random speed, dies and comes back."""

    def __init__(self, queue, worker, totals, applied, rng, *, dies):
        self.queue, self.worker, self.totals = queue, worker, totals
        self.applied, self.rng, self.dies = applied, rng, dies
        self.ahead = rng.choice([1, 1, 3])

    def __call__(self):
        self.queue.join(self.worker)
        epoch = 0
        while epoch < EPOCHS:
            if self._train_in(epoch):
                epoch += 1
            else:
                self.queue.lose(self.worker)
                if self.rng.random() < 0.4:
                    return
                time.sleep(self.rng.random() * 0.002)
                self.queue.join(self.worker)

    def _train_in(self, epoch):
        """Whether it has got to the end of the epoch alive."""
        mine = collections.deque()
        while True:
            number = self.queue.take(self.worker, epoch=epoch)
            if number is None:
                assert not mine
                return True
            if number >= self.totals[epoch]:
                total = self.totals[epoch]
                self.queue.end_of_data(self.worker, epoch=epoch, total=total)
            else:
                mine.append(number)
            # Who waits for the end must have done what it has.
            while len(mine) >= self.ahead or (
                mine and self._is_near_end(epoch)
            ):
                time.sleep(self.rng.random() * 0.0005)
                if self.dies and self.rng.random() < 0.03:
                    return False
                number = mine.popleft()
                self.queue.done(self.worker, epoch=epoch, numbers=[number])
                self.applied[epoch].append((self.worker, number))

    def _is_near_end(self, epoch):
        return self.queue.position.total is not None


@pytest.mark.parametrize("seed", range(40))
def test_each_batch_is_done_once_whoever_dies(seed):
    rng = random.Random(seed)
    workers, guests = rng.randint(1, 5), rng.choice([0, 0, 1])
    totals = [rng.choice([0, 1, 4, rng.randint(5, 80)]) for _ in range(EPOCHS)]
    queue = BatchQueue(workers)
    applied = collections.defaultdict(list)
    readers = [
        Reader(
            queue,
            worker,
            totals,
            applied,
            random.Random(seed * 100 + worker),
            dies=worker > 0,
        )
        for worker in range(workers + guests)
    ]
    threads = [threading.Thread(target=r, daemon=True) for r in readers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(t.is_alive() for t in threads), queue.position
    for epoch, total in enumerate(totals):
        numbers = sorted(number for _, number in applied[epoch])
        assert numbers == list(range(total))
    assert queue.position.is_over


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_with_nobody_lost_each_takes_its_own(workers):
    queue = joined(workers)
    total = 5
    for worker in range(workers):
        own = list(range(worker, total, workers))
        taken = [queue.take(worker, epoch=0) for _ in own]
        assert taken == own
        queue.done(worker, epoch=0, numbers=taken)
    queue.end_of_data(0, epoch=0, total=total)
    assert [queue.take(w, epoch=0) for w in range(workers)] == [None] * workers


def joined(workers, *others):
    queue = BatchQueue(workers)
    for worker in [*range(workers), *others]:
        queue.join(worker)
    return queue


@pytest.fixture
def threads():
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        yield pool


def waits(future):
    with pytest.raises(concurrent.futures.TimeoutError):
        future.result(0.05)
    return True


def taking(threads, queue, worker, epoch=0, **kwargs):
    return threads.submit(queue.take, worker, epoch=epoch, **kwargs)


def test_nobody_takes_from_a_worker_that_is_only_slow(threads):
    queue = joined(2)
    queue.end_of_data(0, epoch=0, total=4)
    numbers = [queue.take(0, epoch=0), queue.take(0, epoch=0)]
    queue.done(0, epoch=0, numbers=numbers)
    more = taking(threads, queue, 0)
    assert waits(more)
    queue.lose(1)
    assert more.result(10) == 1


def test_what_a_slow_worker_would_have_is_taken_along():
    queue = joined(2)
    taken = [queue.take(1, epoch=0)]
    taken += [queue.take(0, epoch=0) for _ in range(8)]
    # Two rounds ahead, never back.
    assert taken == [1, 0, 2, 4, 6, 7, 8, 10, 12]
    # Its own are the slow one's first, then what is ahead of all.
    assert [queue.take(1, epoch=0) for _ in range(4)] == [3, 5, 9, 11]
    queue.end_of_data(0, epoch=0, total=13)
    queue.done(0, epoch=0, numbers=[0, 2, 4, 6, 7, 8, 10, 12])
    queue.done(1, epoch=0, numbers=[1, 3, 5, 9, 11])
    assert queue.position.is_over


def test_what_is_behind_is_left_by_a_lost_worker():
    queue = joined(2)
    queue.end_of_data(0, epoch=0, total=8)
    taken = [queue.take(0, epoch=0) for _ in range(5)]
    assert taken == [0, 2, 4, 5, 6]
    assert queue.position.open == (0, 1, 2, 3, 4, 5, 6)
    queue.lose(1)
    assert [queue.take(0, epoch=0) for _ in range(3)] == [1, 3, 7]


def test_what_is_behind_is_saved():
    queue = joined(2)
    queue.end_of_data(0, epoch=0, total=8)
    numbers = [queue.take(0, epoch=0) for _ in range(5)]
    queue.done(0, epoch=0, numbers=numbers)
    again = joined(2)
    again.resume(queue.position)
    assert [again.take(1, epoch=0) for _ in range(3)] == [7, 1, 3]


def test_who_never_comes_is_lost_too(threads):
    queue = BatchQueue(2)
    queue.join(0)
    queue.end_of_data(0, epoch=0, total=2)
    assert queue.take(0, epoch=0) == 0
    more = taking(threads, queue, 0)
    assert waits(more)
    queue.lose(1)
    assert more.result(10) == 1


def test_who_comes_back_takes_its_own_that_are_left():
    queue = joined(2)
    queue.end_of_data(0, epoch=0, total=6)
    assert queue.take(0, epoch=0) == 0
    taken = [queue.take(1, epoch=0) for _ in range(2)]
    queue.done(1, epoch=0, numbers=taken[:1])
    queue.lose(1)
    queue.join(1)
    assert [queue.take(1, epoch=0) for _ in range(2)] == [5, 3]


def test_one_more_worker_takes_what_is_furthest_behind():
    queue = joined(2, 2)
    assert [queue.take(0, epoch=0) for _ in range(3)] == [0, 2, 4]
    assert [queue.take(2, epoch=0) for _ in range(3)] == [1, 3, 5]
    assert queue.take(1, epoch=0) == 7


def test_an_epoch_begins_when_the_one_before_is_over(threads):
    queue = joined(2)
    queue.end_of_data(0, epoch=4, total=2)
    assert queue.take(0, epoch=4) == 0
    queue.done(0, epoch=4, numbers=[0])
    early = taking(threads, queue, 0, 5)
    assert waits(early)
    assert queue.take(1, epoch=4) == 1
    queue.done(1, epoch=4, numbers=[1])
    assert early.result(10) == 0
    assert queue.take(1, epoch=4) is None
    assert queue.take(1, epoch=5) == 1


def test_an_end_that_is_reported_late_takes_back_what_is_beyond():
    queue = joined(2)
    taken = [queue.take(w, epoch=0) for w in (0, 1, 0, 1)]
    assert taken == [0, 1, 2, 3]
    queue.end_of_data(1, epoch=0, total=2)
    queue.end_of_data(0, epoch=0, total=2)
    queue.done(0, epoch=0, numbers=[0])
    queue.done(1, epoch=0, numbers=[1])
    assert queue.take(0, epoch=0) is None
    # Of an epoch that is over by now.
    assert queue.take(0, epoch=1) == 0
    queue.end_of_data(1, epoch=0, total=2)
    assert queue.position.total is None


def test_who_waits_with_nothing_to_do_is_idle(threads):
    queue = joined(2)
    queue.end_of_data(0, epoch=0, total=2)
    number = queue.take(0, epoch=0)
    called = []
    more = taking(threads, queue, 0, before_waiting=lambda: called.append(1))
    assert waits(more)
    assert called
    assert not queue.is_idle(0)
    queue.done(0, epoch=0, numbers=[number])
    assert queue.is_idle(0)
    assert not queue.is_idle(1)
    queue.lose(1)
    assert more.result(10) == 1
    assert not queue.is_idle(0)


@pytest.mark.parametrize("again", [False, True])
def test_who_is_lost_while_it_waits_waits_no_more(threads, again):
    queue = joined(2)
    queue.end_of_data(0, epoch=0, total=2)
    assert queue.take(0, epoch=0) == 0
    more = taking(threads, queue, 0)
    assert waits(more)
    queue.lose(0)
    if again:
        queue.join(0)
    with pytest.raises(Lost, match="worker 0"):
        more.result(10)
    assert not queue.is_idle(0)
    if not again:
        with pytest.raises(Lost):
            queue.take(0, epoch=0)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_an_epoch_goes_on_where_it_was_with_any_number_of_workers(workers):
    queue = joined(2)
    taken = [queue.take(w, epoch=3) for w in (0, 1, 0, 0)]
    queue.done(0, epoch=3, numbers=[0, 4])
    position = queue.position
    assert taken == [0, 1, 2, 4]
    assert position == Position(3, None, (6, 3), (1, 2))
    later = joined(workers)
    later.resume(position)
    later.end_of_data(0, epoch=3, total=7)
    seen = []
    while not later.position.is_over:
        for worker in range(workers):
            number = None
            if later._is_settled(worker, 3):
                number = later.take(worker, epoch=3)
            if number is not None:
                seen.append(number)
                later.done(worker, epoch=3, numbers=[number])
    assert sorted(seen) == [1, 2, 3, 5, 6]


def test_an_epoch_that_is_left_is_forgotten():
    queue = joined(1)
    assert queue.take(0, epoch=5) == 0
    queue.reset()
    assert queue.position is None
    assert queue.take(0, epoch=0) == 0


def test_only_what_was_taken_is_done_and_once():
    queue = joined(2)
    with pytest.raises(RuntimeError, match="in no epoch"):
        queue.done(0, epoch=0, numbers=[0])
    assert queue.take(0, epoch=0) == 0
    with pytest.raises(RuntimeError, match="batch 0 of epoch 0 from worker 1"):
        queue.done(1, epoch=0, numbers=[0])
    queue.done(0, epoch=0, numbers=[0])
    with pytest.raises(RuntimeError, match="of unknown length"):
        queue.done(0, epoch=0, numbers=[0])


def test_workers_that_have_other_data_are_told():
    queue = joined(2)
    assert queue.take(1, epoch=0) == 1
    queue.done(1, epoch=0, numbers=[1])
    with pytest.raises(ValueError, match="more, which have been trained on"):
        queue.end_of_data(0, epoch=0, total=1)
    queue.end_of_data(0, epoch=0, total=2)
    with pytest.raises(ValueError, match="and 2 by another worker"):
        queue.end_of_data(1, epoch=0, total=3)
