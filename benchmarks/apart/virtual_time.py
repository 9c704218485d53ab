"""What workers of known speeds do, by the engine's rules, without waiting.

Who may read and update is asked of `Staleness`, and whose batch is next of
`BatchQueue`, as the server asks them. Only time is made up: a gradient takes a
worker as many seconds as it is given, and all else takes none. So it is the
same each time, and as fast as the updates.
"""

import contextlib
import heapq
from typing import NamedTuple

from tfdp.asynchronous.batch_queue import BatchQueue
from tfdp.asynchronous.staleness import Staleness


class Read(NamedTuple):
    """A worker takes the newest weights."""

    worker: int


class Update(NamedTuple):
    """A worker's gradient is applied, of the weights that it took last."""

    worker: int
    epoch: int
    number: int


class _MustWait(Exception):
    pass


class _Asked(Staleness):
    """Answers at once whether somebody would have to wait."""

    def _wait(self, worker, what, until):
        if not until():
            raise _MustWait
        return 0.0


class VirtualTime:
    """Workers that train for some epochs.

    Args:
        bound: The largest staleness.
        seconds: What a gradient takes each worker.
        batches: Batches of an epoch.
        epochs: How many.

    Attributes:
        now: Seconds since they began.
        staleness: The server's, whose log has the updates.
    """

    def __init__(self, bound, seconds, batches, epochs):
        self.now = 0.0
        self.staleness = _Asked(bound)
        self._queue = BatchQueue(len(seconds))
        self._seconds, self._batches, self._epochs = seconds, batches, epochs

    def __iter__(self):
        """Goes through all reads and updates, in their order."""
        workers = range(len(self._seconds))
        for worker in workers:
            self.staleness.join(worker)
            self._queue.join(worker)
        for epoch in range(self._epochs):
            self._epoch = epoch
            self._queue.end_of_data(0, epoch=self._epoch, total=self._batches)
            self._numbers, self._under_way = {}, []
            # Each in the order of asking.
            self._readers, self._updaters = list(workers), []
            while not self._queue.position.is_over:
                while (done := self._next()) is not None:
                    yield done
                if self._under_way:
                    self.now, worker = heapq.heappop(self._under_way)
                    self._updaters.append(worker)

    def _next(self):
        """Has one of those go on that may; `None` if all must wait."""
        # Who has updated reads at once, unless others have asked before.
        for worker in self._readers:
            with contextlib.suppress(_MustWait):
                if self._begins(worker):
                    self._readers.remove(worker)
                    return Read(worker)
        for worker in self._updaters:
            with contextlib.suppress(_MustWait):
                number = self._updated(worker)
                self._updaters.remove(worker)
                self._readers.append(worker)
                return Update(worker, self._epoch, number)
        return None

    def _updated(self, worker):
        number = self._numbers[worker]
        self.staleness.update(worker, step=number)
        self._queue.done(worker, epoch=self._epoch, numbers=[number])
        return self._numbers.pop(worker)

    def _begins(self, worker):
        """Whether there is a batch for it, and room."""
        if worker not in self._numbers:
            number = self._queue.take(worker, epoch=self._epoch, waits=False)
            if number is None:
                return False
            self._numbers[worker] = number
        self.staleness.read(worker)
        end = self.now + self._seconds[worker]
        heapq.heappush(self._under_way, (end, worker))
        return True
