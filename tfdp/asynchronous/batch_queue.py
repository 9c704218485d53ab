"""Which worker trains on which batch of an epoch, whoever is lost."""

import threading
from collections.abc import Callable, Collection
from typing import NamedTuple

from tfdp.asynchronous.position import Position
from tfdp.asynchronous.staleness import Lost

# Rounds that a worker may be behind before others take its batches along.
_SLACK = 2


class Batches(NamedTuple):
    """What a gradient is of, for the queue.

    Attributes:
        epoch: The epoch, or `None` where there is no queue.
        numbers: The batches of it.
    """

    epoch: int | None = None
    numbers: tuple[int, ...] = ()


class BatchQueue:
    """The numbers of an epoch's batches, each of which is done exactly once.

    Of n workers, worker w takes w, w + n, w + 2n, ... and no others while none
    is slow or lost. Who is two rounds ahead of another takes along what that
    one would have in this round; so nobody goes back for it. What a lost worker
    had taken and not done, and what it had still to take, is taken by those
    that are through with their own, and by the worker itself when it comes
    back. One that was not among the n takes what is furthest behind. An epoch
    ends for all at once, when all of it is done.

    Args:
        workers: How many are expected, n.

    Example:

    >>> queue = BatchQueue(workers=2)
    >>> queue.join(0), queue.join(1)
    (None, None)
    >>> queue.take(0, epoch=0), queue.take(1, epoch=0)
    (0, 1)
    >>> queue.end_of_data(0, epoch=0, total=3)
    >>> queue.lose(1)
    >>> queue.done(0, epoch=0, numbers=[0])
    >>> queue.take(0, epoch=0), queue.take(0, epoch=0)
    (2, 1)
    >>> queue.done(0, epoch=0, numbers=[1, 2])
    >>> queue.take(0, epoch=0) is None
    True
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._changed = threading.Condition()
        self._lives: dict[int, object] = {}
        self._lost: set[int] = set()
        self._waiting: dict[int, object] = {}
        self._epoch: int | None = None
        self._total: int | None = None
        self._following: list[int] = []
        self._taken: dict[int, int] = {}
        self._left: set[int] = set()
        # Those of a slow worker, before what others have taken along.
        self._behind: set[int] = set()
        self._is_stopped = False

    @property
    def position(self) -> Position | None:
        """How far the newest epoch is, before the first one `None`."""
        with self._changed:
            return self._position()

    def join(self, worker: int) -> None:
        """Lets a worker take batches, also one that was lost."""
        with self._changed:
            self._give_back(worker)
            self._lives[worker] = object()
            self._lost.discard(worker)
            self._changed.notify_all()

    def lose(self, worker: int) -> None:
        """Leaves the batches of a worker to the others, come it or not."""
        with self._changed:
            self._give_back(worker)
            self._lives.pop(worker, None)
            self._lost.add(worker)
            behind = self._behind_of(worker)
            self._behind -= behind
            self._left |= behind
            self._changed.notify_all()

    def take(
        self,
        worker: int,
        *,
        epoch: int,
        before_waiting: Callable[[], object] | None = None,
        waits: bool = True,
    ) -> int | None:
        """Returns the number of the worker's next batch.

        Where none is left that it may have, it waits until one is, or the
        epoch is over.

        Args:
            worker: Who asks.
            epoch: Number of the epoch. The next one begins when somebody asks
                for it, and the one before is over.
            before_waiting: Called, if it has to wait, without the queue.
            waits: Whether to wait, instead of having none.

        Returns:
            The number, or `None` where the epoch is over.

        Raises:
            Lost: If the worker is lost, before or meanwhile.
        """
        with self._changed:
            life = self._lives.get(worker)
            if life is None:
                raise Lost(f"worker {worker}")
            self._begin_if_due(epoch)
            is_settled = self._is_settled(worker, epoch)
            if not (is_settled or waits):
                return None
            if not is_settled:
                self._waiting[worker] = life
        try:
            if not is_settled and before_waiting is not None:
                before_waiting()
            with self._changed:
                return self._wait_and_take(worker, epoch, life)
        finally:
            with self._changed:
                if self._waiting.get(worker) is life:
                    del self._waiting[worker]

    def done(
        self, worker: int, *, epoch: int, numbers: Collection[int]
    ) -> None:
        """Says that a worker has trained on batches that it had taken.

        Raises:
            RuntimeError: If it had not taken them.
        """
        with self._changed:
            self.check_taken(worker, epoch=epoch, numbers=numbers)
            for number in numbers:
                del self._taken[number]
            self._changed.notify_all()

    def check_taken(
        self, worker: int, *, epoch: int, numbers: Collection[int]
    ) -> None:
        """Checks that a worker has these batches to train on.

        Raises:
            RuntimeError: If it has not.
        """
        with self._changed:
            for number in numbers:
                if epoch == self._epoch and self._taken.get(number) == worker:
                    continue
                raise RuntimeError(
                    "A worker trains on batches that it has taken, each once. "
                    f"Received: batch {number} of epoch {epoch} from worker "
                    f"{worker}, in {self._described()}. Every worker must have "
                    "as many batches as the others, and take each by its "
                    "number."
                )

    def end_of_data(self, worker: int, *, epoch: int, total: int) -> None:
        """Says that an epoch has so many batches and no more.

        Numbers from there on are nobody's.

        Raises:
            ValueError: If another total is known, or batches beyond it have
                been done.
        """
        with self._changed:
            self._begin_if_due(epoch)
            if epoch != self._epoch:
                return
            known = f"{self._total} by another worker"
            if self._total is None:
                known = "more, which have been trained on"
                is_other = self._is_done_from(total)
            else:
                is_other = self._total != total
            if is_other:
                raise ValueError(
                    "Every worker must have the same batches. Received: "
                    f"epoch {epoch} has {total} batches by worker {worker}, "
                    f"and {known}. Read the same data on every worker, in the "
                    "same order."
                )
            self._total = total
            for number in [n for n in self._taken if n >= total]:
                del self._taken[number]
            self._left = {n for n in self._left if n < total}
            self._behind = {n for n in self._behind if n < total}
            self._changed.notify_all()

    def is_idle(self, worker: int) -> bool:
        """Whether a worker waits, and has no batch to train on meanwhile."""
        with self._changed:
            return self._is_idle(worker)

    def stop(self) -> None:
        """Ends the epoch as it is, and begins no other, until `reset`."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    def resume(self, position: Position) -> None:
        """Goes on in the middle of an epoch: what was open is open again."""
        with self._changed:
            self._epoch, self._total = position.epoch, position.total
            self._following = list(position.following)
            self._taken, self._left = {}, set(position.open)
            self._behind = set()
            self._changed.notify_all()

    def reset(self) -> None:
        """Leaves the epoch, over or not; the next one may have any number."""
        with self._changed:
            self._epoch, self._total = None, None
            self._following, self._taken = [], {}
            self._left, self._behind = set(), set()
            self._is_stopped = False
            self._changed.notify_all()

    def _position(self) -> Position | None:
        if self._epoch is None:
            return None
        still = sorted(self._still())
        return Position(
            self._epoch, self._total, tuple(self._following), tuple(still)
        )

    def _wait_and_take(
        self, worker: int, epoch: int, life: object
    ) -> int | None:
        def is_settled() -> bool:
            self._begin_if_due(epoch)
            is_lost = self._lives.get(worker) is not life
            return is_lost or self._is_settled(worker, epoch)

        self._changed.wait_for(is_settled)
        if self._lives.get(worker) is not life:
            raise Lost(f"worker {worker}")
        number = None if self._is_past(epoch) else self._next_of(worker)
        if number is not None:
            self._taken[number] = worker
            if number in self._left or number in self._behind:
                self._left.discard(number)
                self._behind.discard(number)
            else:
                rows = len(self._following)
                row = number % rows
                is_owned = row < self._workers and row not in self._lost
                passed = self._behind if is_owned else self._left
                passed.update(range(self._following[row], number, rows))
                self._following[row] = number + rows
        return number

    def _begin_if_due(self, epoch: int) -> None:
        position = self._position()
        if position is None or (epoch > position.epoch and position.is_over):
            self._epoch, self._total = epoch, None
            self._following = list(range(self._workers))
            self._changed.notify_all()

    def _is_settled(self, worker: int, epoch: int) -> bool:
        """Whether it need not wait: a batch is there, or the epoch over."""
        return self._is_past(epoch) or (
            epoch == self._epoch and self._next_of(worker) is not None
        )

    def _is_past(self, epoch: int) -> bool:
        position = self._position()
        return self._is_stopped or (
            position is not None
            and (
                epoch < position.epoch
                or (epoch == position.epoch and position.is_over)
            )
        )

    def _next_of(self, worker: int) -> int | None:
        rows = self._following
        if worker < len(rows):
            behind = self._behind_of(worker)
            if behind:
                return min(behind)
            if self._is_there(rows[worker]):
                return min([rows[worker], *self._along(worker)])
        if self._left:
            return min(self._left)
        if worker < len(rows):
            # Those of nobody: a job of more workers has begun the epoch.
            owned = set(range(self._workers)) - self._lost
            rows = [n for row, n in enumerate(rows) if row not in owned]
        return min(filter(self._is_there, rows), default=None)

    def _along(self, worker: int) -> list[int]:
        """What others that are slow would have in the worker's round."""
        rows, own = self._following, self._following[worker]
        return [
            own - (own - row) % len(rows)
            for row, number in enumerate(rows)
            if number + _SLACK * len(rows) <= own
        ]

    def _behind_of(self, worker: int) -> set[int]:
        rows = len(self._following)
        return {n for n in self._behind if n % rows == worker}

    def _still(self) -> set[int]:
        return {*self._taken, *self._left, *self._behind}

    def _is_there(self, number: int) -> bool:
        return self._total is None or number < self._total

    def _is_done_from(self, total: int) -> bool:
        rows = len(self._following)
        still = self._still()
        return any(
            number not in still
            for row, following in enumerate(self._following)
            for number in range(total + (row - total) % rows, following, rows)
        )

    def _is_idle(self, worker: int) -> bool:
        return worker in self._waiting and worker not in self._taken.values()

    def _give_back(self, worker: int) -> None:
        mine = [n for n, who in self._taken.items() if who == worker]
        for number in mine:
            del self._taken[number]
        self._left.update(mine)
        self._waiting.pop(worker, None)

    def _described(self) -> str:
        if self._epoch is None:
            return "no epoch"
        total = (
            "unknown length"
            if self._total is None
            else f"{self._total} batches"
        )
        return f"epoch {self._epoch}, of {total}"
