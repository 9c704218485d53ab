"""The numbers that a worker takes, until they are trained on."""

import pytest

from tfdp.asynchronous.feed import Feed


class Queue:
    """Hands out so many numbers, then what a lost worker leaves."""

    def __init__(self, own, left=()):
        self.own, self.left = list(own), list(left)
        self.total, self.given_up, self.interrupted = None, [], None

    def take(self, epoch, *, waits=True):
        if self.own:
            return self.own.pop(0)
        return self.left.pop(0) if waits and self.left else None

    def end_of_data(self, epoch, total):
        self.total = total
        self.own = [number for number in self.own if number < total]

    def give_up(self, epoch, number):
        self.given_up.append(number)

    def interrupt(self, *, is_on):
        self.interrupted = is_on


def begun(queue, **kwargs):
    feed = Feed()
    feed.begin(queue, **kwargs)
    return feed


def test_a_gradient_is_of_the_batches_whose_steps_have_begun():
    feed = begun(Queue([0, 2, 4]))
    assert [feed.take() for _ in range(4)] == [0, 2, 4, None]
    feed.use(), feed.use()
    assert feed.used() == [0, 2]
    assert feed.used() == []
    feed.use()
    assert feed.used() == [4]


def test_who_gathers_knows_the_last_batch_there_is_for_now():
    feed = begun(Queue([0, 2], left=[1]), looks_ahead=True)
    assert [feed.take(), feed.take()] == [0, 2]
    assert [feed.use(), feed.use()] == [False, True]
    # That of a lost worker is an update of its own.
    assert feed.take() == 1
    assert feed.use() is True


def test_numbers_beyond_the_end_are_no_batches():
    feed = begun(Queue([0, 2, 4, 6]), looks_ahead=True)
    assert [feed.take() for _ in range(3)] == [0, 2, 4]
    feed.end_of_data(3)
    assert [feed.use(), feed.use()] == [False, True]
    with pytest.raises(RuntimeError, match="A step is of a batch that was ta"):
        feed.use()


def test_what_was_gathered_ends_the_epoch_where_no_step_would_end_it():
    queue = Queue([0, 2, 4], left=[1])
    feed = begun(queue, looks_ahead=True)
    feed.take()
    assert feed.use() is False
    feed.take()
    feed.end_of_data(2)
    assert feed.take() is None
    assert feed.used() == [0]
    assert (feed.drain(), queue.given_up) == ([1], [1])


def test_a_batch_that_cannot_be_read_is_given_up():
    queue = Queue([0, 2])
    feed = begun(queue)
    feed.take(), feed.take()
    feed.give_up(2)
    feed.use()
    assert (feed.used(), queue.given_up) == ([0], [2])


def test_an_epoch_begins_with_nothing_taken():
    feed = begun(Queue([0, 2]))
    feed.take()
    feed.begin_epoch(1)
    with pytest.raises(RuntimeError, match="A step is of a batch that was ta"):
        feed.use()


def test_nobody_takes_without_a_fit():
    queue = Queue([0])
    feed = begun(queue)
    assert queue.interrupted is False
    feed.close()
    assert queue.interrupted is True
    with pytest.raises(RuntimeError, match="callbacks.DataParallel"):
        feed.take()
