"""Batches of a dataset that is read from its begin to its end."""

import atexit
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from tfdp.data.blocks import Blocks
from tfdp.data.numbered.feeding import EndOfData, Gone
from tfdp.data.numbered.orders_drawn import OrdersDrawn
from tfdp.upstream.tensorflow import tf_datasets, tf_iterator_states


class Stream:
    """Reads a dataset, and leaves out what others train on.

    Args:
        dataset: Yields the batches of all workers; or, with `blocks`, those
            whose samples are wanted.
        total: How many an epoch has, where that is known.
        times_begun: How often one device has begun the dataset before an
            epoch, which a shuffling draws another order for each time.
        blocks: Where in it the samples of batches are chosen.
        is_once: Whether it cannot be begun again, as a generator.

    Attributes:
        total: As given.
    """

    def __init__(
        self,
        dataset: tf.data.Dataset,
        total: int | None,
        times_begun: Callable[[int], int],
        *,
        blocks: Blocks | None = None,
        is_once: bool = False,
    ) -> None:
        self.total = total
        self.dataset = dataset
        self.blocks = blocks
        self.is_once = is_once
        self.orders = OrdersDrawn(dataset)
        self._times_begun = times_begun
        self._begun = 0

    @property
    def facts(self) -> dict[str, Any]:
        """What must be the same on all workers, by name."""
        found = map(tf_datasets.batching, tf_datasets.through(self.dataset))
        return {
            "the batch size": [each.size for each in found if each],
            "the seeds of the order": tf_datasets.shuffle_seeds(self.dataset),
        }

    def epoch(self, number: int) -> "_Epoch":
        """Begins an epoch, in the order that one device reads it in."""
        self._draw_until(number)
        self._begun += 1
        return _Epoch(self, number)

    def ended(self, number: int) -> None:
        """Draws what one device draws at the end of an epoch."""
        self._draw_until(number + 1)

    def begun(self) -> Iterator[Any]:
        """Begins the dataset."""
        if self.blocks is not None:
            self.blocks.open()
        return iter(self.dataset)

    def _draw_until(self, number: int) -> None:
        if self.is_once:
            return
        used = set(map(self._times_begun, range(number)))
        while self._begun < self._times_begun(number):
            if self.blocks is not None:
                self.blocks.end()
            iterator = iter(self.dataset)
            if self._begun in used and self.orders.are_nested:
                # Some draw when the first element is wanted.
                next(iterator, None)
            self._begun += 1
        if self.blocks is not None:
            self.blocks.let_all_through()


class _Epoch:
    """One epoch, gone through once, and again for what was passed."""

    def __init__(self, stream: Stream, number: int) -> None:
        self._stream = stream
        self._number = number
        self._position = 0
        self._iterator: Iterator[Any] | None = stream.begun()
        # Where it goes on when it is begun again, after the first batch if
        # there is one.
        self._state: tf.Tensor | None = None
        self._first: Any = None
        _under_way.add(self)
        if stream.orders.are_forked:
            self._state = tf_iterator_states.state(self._iterator)

    def batch(self, number: int) -> Any:
        blocks = self._stream.blocks
        if number < self._position:
            if number == 0 and self._first is not None:
                return self._first
            self._begin_again()
        if self._iterator is None:
            raise EndOfData(self._position)
        try:
            if blocks is not None:
                blocks.want(number)
                self._position = number
            while self._position < number:
                self._next(self._iterator)
            return self._next(self._iterator)
        except StopIteration:
            if blocks is not None:
                self._position = blocks.batches_seen()
            self._iterator = None
            raise EndOfData(self._position) from None

    def close(self, *, is_over: bool) -> None:
        self._leave()
        if is_over:
            self._stream.ended(self._number)

    def _next(self, iterator: Iterator[Any]) -> Any:
        batch = next(iterator)
        self._position += 1
        stream = self._stream
        is_nested = stream.orders.are_nested and not stream.is_once
        if is_nested and stream.blocks is None and self._position == 1:
            # What draws late has drawn now; its buffers are kept with it.
            self._first = batch
            self._state = tf_iterator_states.state(iterator)
        return batch

    def _begin_again(self) -> None:
        stream = self._stream
        is_lost = stream.orders.are_drawn and self._state is None
        if stream.is_once or is_lost:
            raise Gone
        self._leave()
        self._iterator = stream.begun()
        self._position = 0 if self._first is None else 1
        if self._state is not None:
            tf_iterator_states.restore(self._iterator, self._state)

    def _leave(self) -> None:
        """Has the threads of an iterator end, which may wait for a number."""
        iterator, self._iterator = self._iterator, None
        blocks = self._stream.blocks
        if blocks is None:
            return
        blocks.end()
        # It may be collected as garbage while somebody traces a graph.
        with tf.init_scope():
            for _ in iterator or ():
                pass
        blocks.let_all_through()


_under_way: weakref.WeakSet[_Epoch] = weakref.WeakSet()


@atexit.register
def _leave_all() -> None:
    """Ends threads that need Python's lock, while they still get it."""
    for epoch in list(_under_way):
        epoch.close(is_over=False)
