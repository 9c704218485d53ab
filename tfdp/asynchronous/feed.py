"""The batches that a worker takes from the queue, until they are trained on."""

import collections
import threading
from typing import Protocol


class Batches(Protocol):
    """Whom a feed asks for the numbers of batches; an `Exchange` is one."""

    def take(self, epoch: int, *, waits: bool = True) -> int | None:
        """Returns the number of the next batch, or `None` without one."""

    def end_of_data(self, epoch: int, total: int) -> None:
        """Says how many batches an epoch has."""


class Feed:
    """Hands out numbers of batches, and remembers those under way.

    Each number that `take` returns becomes one step, in the same order; `use`
    says that a step has begun, and `used` which batches a gradient is of.

    Data are given to a `fit` before it begins to take batches.

    Attributes:
        epoch: Index of the epoch, in the `fit` at hand.
        is_used: Whether the data of the `fit` at hand are taken by numbers.
    """

    def __init__(self) -> None:
        self._batches: Batches | None = None
        self._looks_ahead = False
        self._lock = threading.Lock()
        self.is_used = False
        self.begin_epoch(0)

    def begin(self, batches: Batches, *, looks_ahead: bool = False) -> None:
        """Begins a `fit`.

        Args:
            batches: Whom to ask.
            looks_ahead: Whether to take one batch more before one is handed
                out, so that `use` knows the last one there is, for now.
        """
        self._batches, self._looks_ahead = batches, looks_ahead

    def begin_epoch(self, epoch: int) -> None:
        """Forgets what was taken in the epoch before.

        Args:
            epoch: Its index, in the `fit` at hand.
        """
        with self._lock:
            self.epoch = epoch
            self._next: int | None = None
            self._taken: collections.deque[tuple[int, bool]] = (
                collections.deque()
            )
            self._in_use: list[int] = []

    def take(self) -> int | None:
        """Returns the number of the next batch; `None` at the epoch's end.

        It waits while others have what is left.
        """
        epoch, number = self.epoch, self._next
        if self._batches is None:
            return None
        if number is None:
            number = self._batches.take(epoch)
        following = None
        if number is not None and self._looks_ahead:
            following = self._batches.take(epoch, waits=False)
        with self._lock:
            if number is not None and epoch == self.epoch:
                self._next = following
                self._taken.append((number, following is None))
        return number

    def end_of_data(self, total: int) -> None:
        """Says that the epoch has so many batches, of all workers together.

        Args:
            total: How many.
        """
        if self._batches is not None:
            self._batches.end_of_data(self.epoch, total)

    def use(self) -> bool:
        """Says that the step of the next batch begins.

        Returns:
            Whether it is the last there is for now, so that what was gathered
            must be an update.
        """
        with self._lock:
            if not self._taken:
                return True
            number, is_last = self._taken.popleft()
            self._in_use.append(number)
            return is_last

    def used(self) -> list[int]:
        """Returns the batches of the steps since it was called last."""
        with self._lock:
            used, self._in_use = self._in_use, []
            return used
