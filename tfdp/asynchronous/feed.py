"""The batches that a worker takes from the queue, until they are trained on."""

import collections
import threading
from typing import Protocol

NEEDS_EDGES = (
    "A model in an AsynchronousStrategy is trained by `fit`, with "
    "`callbacks.DataParallel` at the head of its callbacks. Received: a step "
    "without. Give `fit` `callbacks=[tfdp.callbacks.DataParallel(), ...]`."
)


class Batches(Protocol):
    """Whom a feed asks for the numbers of batches; an `Exchange` is one."""

    def take(self, epoch: int, *, waits: bool = True) -> int | None:
        """Returns the number of the next batch, or `None` without one."""

    def end_of_data(self, epoch: int, total: int) -> None:
        """Says how many batches an epoch has."""

    def give_up(self, epoch: int, number: int) -> None:
        """Says that a batch will be trained on by nobody."""

    def interrupt(self, *, is_on: bool) -> None:
        """Has `take` return at once, with nothing, or wait again."""


class Feed:
    """Hands out numbers of batches, and remembers those under way.

    Each number that `take` returns becomes one step, in the same order; `use`
    says that a step has begun, and `used` which batches a gradient is of.

    Data are given to a `fit` before it begins to take batches.

    Attributes:
        epoch: Index of the epoch, in the `fit` at hand.
        first_epoch: That of the first one, as the chief's program gave it.
        failure: What ended the reading of batches in this `fit`, if anything.
    """

    def __init__(self) -> None:
        self._batches: Batches | None = None
        self._looks_ahead = False
        self.first_epoch = 0
        self.failure: Exception | None = None
        self._lock = threading.Lock()
        self.begin_epoch(0)

    def begin(self, batches: Batches, *, looks_ahead: bool = False) -> None:
        """Begins a `fit`.

        Args:
            batches: Whom to ask.
            looks_ahead: Whether to take one batch more before one is handed
                out, so that `use` knows the last one there is, for now.
        """
        self._batches, self._looks_ahead = batches, looks_ahead
        self.failure = None
        batches.interrupt(is_on=False)

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
            # Whether the batch handed out last ends what is gathered.
            self._is_closing = True

    def take(self) -> int | None:
        """Returns the number of the next batch; `None` at the epoch's end.

        It waits while others have what is left.

        Raises:
            RuntimeError: If no `fit` has begun that says whom to ask.
        """
        epoch, number, batches = self.epoch, self._next, self._batches
        if batches is None:
            raise RuntimeError(NEEDS_EDGES)
        if self._is_open:
            return None
        if number is None:
            number = batches.take(epoch)
        following = None
        if number is not None and self._looks_ahead:
            following = batches.take(epoch, waits=False)
        with self._lock:
            if number is not None and epoch == self.epoch:
                self._next = following
                self._is_closing = following is None
                self._taken.append((number, self._is_closing))
        return number

    def end_of_data(self, total: int) -> None:
        """Says that the epoch has so many batches, of all workers together.

        Args:
            total: How many.
        """
        if self._batches is None:
            return
        with self._lock:
            kept = [n for n, _ in self._taken if n < total]
            is_cut = len(kept) < len(self._taken)
            if self._next is not None and self._next >= total:
                self._next, is_cut = None, True
            if is_cut:
                places = range(1, 1 + len(kept))
                self._taken = collections.deque(
                    zip(kept, [p == len(kept) for p in places], strict=True)
                )
                self._is_closing = bool(kept) or not self._in_use
        self._batches.end_of_data(self.epoch, total)

    def give_up(self, number: int) -> None:
        """Says that the number taken last will be no step.

        Args:
            number: It.
        """
        if self._batches is None:
            return
        with self._lock:
            self._taken.pop()
            if self._taken and self._next is None:
                self._taken.append((self._taken.pop()[0], True))
            self._is_closing = bool(self._taken) or not self._in_use
        self._batches.give_up(self.epoch, number)

    def drain(self) -> list[int]:
        """Gives up what is left of the epoch, and waits for its end.

        What was gathered and not sent has ended the epoch of this worker
        early; then others are lost, and nobody else is there.

        Returns:
            What was given up.
        """
        left: list[int] = []
        if self._batches is not None:
            while (number := self._batches.take(self.epoch)) is not None:
                left.append(number)
                self._batches.give_up(self.epoch, number)
        return left

    def close(self) -> None:
        """Says that nobody reads any more; who waits to take is let go."""
        batches, self._batches = self._batches, None
        if batches is not None:
            batches.interrupt(is_on=True)

    def use(self) -> bool:
        """Says that the step of the next batch begins.

        Returns:
            Whether it is the last there is for now, so that what was gathered
            must be an update.

        Raises:
            RuntimeError: If no batch was taken.
        """
        with self._lock:
            if not self._taken:
                raise RuntimeError(
                    "A step is of a batch that was taken. Received: a step "
                    "beside. Give `fit` data, not a distributed dataset."
                )
            number, is_last = self._taken.popleft()
            self._in_use.append(number)
            return is_last

    @property
    def _is_open(self) -> bool:
        """Whether something was gathered that no step to come will end."""
        with self._lock:
            is_through = not self._taken and self._next is None
            return is_through and bool(self._in_use) and not self._is_closing

    def used(self) -> list[int]:
        """Returns the batches of the steps since it was called last."""
        with self._lock:
            used, self._in_use = self._in_use, []
            return used
