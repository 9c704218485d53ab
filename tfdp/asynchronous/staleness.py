"""Who may read and who may update, so that no gradient is too stale."""

import array
import collections
import itertools
import numbers
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from tfdp.batch import checked_count


class Lost(Exception):
    """A worker that was lost, or has joined anew, waits for nothing more."""


class Applied(NamedTuple):
    """One update, as the log has it.

    Attributes:
        worker: Whose gradient it was.
        step: That worker's number of it.
        read: Version of the weights that the gradient was taken at.
        applied: Version that it was applied to; one more is what it made.
    """

    worker: int
    step: int
    read: int
    applied: int

    @property
    def staleness(self) -> int:
        """Updates of others between the read and the update."""
        return self.applied - self.read


class Staleness:
    """Lets workers read weights and update them within a bound.

    Staleness of an update is the number of versions between the one that its
    gradient was read at and the one that it is applied to. The bound is exact:
    no update exceeds it, none is dropped, and nobody waits for ever.

    A read under way, of version `r`, has its update to be applied at
    `r + bound` at the latest. Sorted by that (earliest deadline first), the
    q-th of them, counted from 0, has room while `version + q <= r + bound`.
    A read begins, and an update is applied, if that leaves room for all others.
    So the oldest read may always update, which is why nothing is stuck. With a
    bound of 0 workers take turns, as one device would in another order of
    batches; with one less than there are workers, all compute at once.

    This grew from stale synchronous parallel (Ho et al., 2013, "More Effective
    Distributed ML via a Stale Synchronous Parallel Parameter Server"), which
    bounds something else: how many steps the fastest worker is ahead of the
    slowest. A bound of 0 is a barrier there, at which a gradient still misses
    those that all others send meanwhile; and its slowest worker stops all.

    Args:
        bound: The largest staleness, an integer of at least 0.
        version: How many updates the weights have seen already. Defaults to 0.
        clock: Tells seconds. Defaults to `time.monotonic`.

    Raises:
        ValueError: If `bound` is no integer of at least 0, or one of more
            than 64 bits.

    Example:

    >>> staleness = Staleness(bound=1)
    >>> staleness.join(0), staleness.join(1)
    (None, None)
    >>> staleness.read(0), staleness.read(1)
    (0, 0)
    >>> staleness.update(0, step=0), staleness.update(1, step=0)
    (0, 1)
    >>> [update.staleness for update in staleness.log]
    [0, 1]
    """

    def __init__(
        self,
        bound: int,
        *,
        version: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        is_integer = isinstance(bound, numbers.Integral)
        if isinstance(bound, bool) or not is_integer or bound < 0:
            raise ValueError(
                "`max_staleness` must be an integer of at least 0: how many "
                "updates of others a gradient may miss. Received: "
                f"max_staleness={bound!r}. Pass 0 for workers that take turns, "
                "or one less than there are workers, with which all compute "
                "at once."
            )
        self.bound = checked_count("max_staleness", bound, minimum=0)
        self._version = version
        self._clock = clock
        self._changed = threading.Condition()
        self._reads: dict[int, int] = {}
        self._waiting: collections.deque[int] = collections.deque()
        # Who joins again is another than the thread that still waits for it.
        self._lives: dict[int, object] = {}
        self._log = array.array("q")
        self._histograms: dict[int, collections.Counter[int]] = {}
        self._waited: dict[int, dict[str, float]] = {}
        self._begun: dict[int, float] = {}
        self._computed: dict[int, float] = {}

    @property
    def version(self) -> int:
        """How many updates the weights have seen."""
        return self._version

    @property
    def log(self) -> list[Applied]:
        """All updates, in the order in which they were applied."""
        with self._changed:
            numbers = iter(self._log.tolist())
        return [Applied(*row) for row in zip(*[numbers] * 4, strict=True)]

    @property
    def readers(self) -> list[int]:
        """Workers whose gradient is under way."""
        with self._changed:
            return sorted(self._reads)

    def join(self, worker: int) -> None:
        """Lets a worker take part, also one that was lost."""
        with self._changed:
            self._drop(worker)
            self._lives[worker] = object()
            self._histograms.setdefault(worker, collections.Counter())
            self._waited.setdefault(worker, {"read": 0.0, "update": 0.0})
            self._computed.setdefault(worker, 0.0)
            self._changed.notify_all()

    def lose(self, worker: int) -> None:
        """Drops the read of a worker, and wakes what waits for it."""
        with self._changed:
            self._drop(worker)
            self._lives.pop(worker, None)
            self._changed.notify_all()

    def read(self, worker: int, then: Callable[[], Any] | None = None) -> int:
        """Waits until a gradient may be begun, in the order of asking.

        Args:
            worker: Who asks; it must hold no read.
            then: Called before anybody else may update.

        Returns:
            The version that is read.

        Raises:
            Lost: If the worker is lost, before or meanwhile.
            RuntimeError: If it has read already.
        """
        with self._changed:
            if worker in self._reads:
                raise RuntimeError(
                    "A worker must update, or release, what it has read "
                    f"before it reads again. Received: worker {worker}, which "
                    f"has read version {self._reads[worker]}."
                )
            life = self._life(worker)
            self._waiting.append(worker)
            try:
                self._wait(
                    worker,
                    "read",
                    lambda: (
                        self._lives.get(worker) is not life
                        or (self._waiting[0] == worker and self._has_room())
                    ),
                )
            finally:
                # Joined anew, it may wait again.
                if self._lives.get(worker) is life:
                    self._waiting.remove(worker)
                self._changed.notify_all()
            self._check(worker, life)
            self._reads[worker] = self._version
            self._begun[worker] = self._clock()
            if then is not None:
                then()
            return self._version

    def update(
        self,
        worker: int,
        *,
        step: int,
        apply: Callable[[], Any] | None = None,
    ) -> int:
        """Waits until no other gradient would become too stale, and applies.

        Args:
            worker: Whose gradient it is; it must have read.
            step: That worker's number of it, for the log.
            apply: Makes the update, alone.

        Returns:
            The version that it was applied to.

        Raises:
            Lost: If the worker is lost, before or meanwhile.
            RuntimeError: If it has not read.
        """
        with self._changed:
            life = self._life(worker)
            if worker not in self._reads:
                raise RuntimeError(
                    "A worker must read weights before it updates them. "
                    f"Received: an update, step {step}, of worker {worker}, "
                    "which has read none since its last."
                )
            waited = self._wait(
                worker,
                "update",
                lambda: (
                    self._lives.get(worker) is not life
                    or self._leaves_room(worker)
                ),
            )
            self._check(worker, life)
            if apply is not None:
                apply()
            update = Applied(
                worker, step, self._reads.pop(worker), self._version
            )
            self._log.extend(update)
            self._histograms[worker][update.staleness] += 1
            self._version += 1
            took = self._clock() - self._begun[worker]
            self._computed[worker] += took - waited
            self._changed.notify_all()
            return update.applied

    def release(self, worker: int) -> None:
        """Gives back a read that will see no update, if there is one."""
        with self._changed:
            self._reads.pop(worker, None)
            self._changed.notify_all()

    def alone(self, do: Callable[[], Any]) -> Any:
        """Returns what a function does while nobody updates or reads."""
        with self._changed:
            return do()

    def start_at(self, version: int) -> None:
        """Goes on from weights that have seen so many updates.

        Updates from there on are forgotten, as those of other weights.

        Raises:
            RuntimeError: If a gradient is under way.
        """
        kept = [update for update in self.log if update.applied < version]
        with self._changed:
            if self._reads:
                raise RuntimeError(
                    "Weights must be loaded before any worker has read them. "
                    f"Received: reads of workers {sorted(self._reads)}. Load "
                    "before training begins."
                )
            self._version = version
            self._log = array.array("q", itertools.chain(*kept))
            for each in self._histograms.values():
                each.clear()
            for update in kept:
                self._histograms[update.worker][update.staleness] += 1

    def histograms(self) -> dict[int, dict[int, int]]:
        """Returns how many updates were how stale, by worker."""
        with self._changed:
            return {w: dict(h) for w, h in self._histograms.items()}

    def waited(self) -> dict[int, dict[str, float]]:
        """Returns seconds waited for room to `"read"` and to `"update"`."""
        with self._changed:
            return {w: dict(seconds) for w, seconds in self._waited.items()}

    def waited_by(self, worker: int) -> float:
        """Returns seconds that a worker waited for room, of both kinds."""
        with self._changed:
            return sum(self._waited.get(worker, {}).values())

    def computed(self) -> dict[int, float]:
        """Returns seconds from reads to their updates, without waiting."""
        with self._changed:
            return dict(self._computed)

    def _has_room(self) -> bool:
        # The newest read has the latest deadline, and leaves the others theirs.
        return len(self._reads) <= self.bound

    def _leaves_room(self, worker: int) -> bool:
        others = (read for w, read in self._reads.items() if w != worker)
        return self._have_room(others, self._version + 1)

    def _have_room(self, reads: Iterable[int], version: int) -> bool:
        return all(
            version + place <= read + self.bound
            for place, read in enumerate(sorted(reads))
        )

    def _wait(self, worker: int, what: str, until: Callable[[], bool]) -> float:
        begin = self._clock()
        self._changed.wait_for(until)
        waited = self._clock() - begin
        self._waited[worker][what] += waited
        return waited

    def _drop(self, worker: int) -> None:
        self._reads.pop(worker, None)
        if worker in self._waiting:
            self._waiting.remove(worker)

    def _life(self, worker: int) -> object:
        if worker not in self._lives:
            raise Lost(f"worker {worker}")
        return self._lives[worker]

    def _check(self, worker: int, life: object) -> None:
        if self._lives.get(worker) is not life:
            raise Lost(f"worker {worker}")
