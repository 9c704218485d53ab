"""How often a worker may be started again by itself, and when."""

from tfdp.checks import checked_count, checked_number

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0


class Restarts:
    """Counts the restarts of each worker, with a longer pause before each.

    The first pause is a second, each further one is twice as long: what fails
    at once, and would again, takes little from the others.

    Args:
        most: How often each worker may be started again; 0 for never.
        first_pause: Seconds of its first pause. Defaults to 1.
        longest_pause: Seconds of the longest one. Defaults to 30.

    Attributes:
        most: As given.
        counts: How often each worker was started again, by its index, or is
            about to be.

    Raises:
        TypeError: If a number is none.
        ValueError: If `most` is negative, or a pause not positive.

    Example:

    >>> restarts = Restarts(2)
    >>> [restarts.plan(1, now=float(now)) for now in (10, 20, 30)]
    [1.0, 2.0, None]
    """

    def __init__(
        self,
        most: int,
        *,
        first_pause: float = _FIRST_PAUSE,
        longest_pause: float = _LONGEST_PAUSE,
    ) -> None:
        """Has started nobody again."""
        self.most = checked_count("max_restarts", most, minimum=0)
        self._first = checked_number("first_pause", first_pause)
        self._longest = checked_number("longest_pause", longest_pause)
        self.counts: dict[int, int] = {}
        self._due: dict[int, float] = {}

    def plan(self, worker: int, now: float) -> float | None:
        """Plans the restart of a worker that has fallen.

        Args:
            worker: Its index.
            now: Seconds, of a clock that only goes forward.

        Returns:
            Seconds until then; `None` if it has had all of its restarts.
        """
        count = self.counts.get(worker, 0)
        if count >= self.most:
            return None
        self.counts[worker] = count + 1
        # So many doublings are beyond the longest one anyhow.
        pause = min(self._first * 2.0 ** min(count, 60), self._longest)
        self._due[worker] = now + pause
        return pause

    @property
    def waiting(self) -> list[int]:
        """The workers whose pause has not ended."""
        return sorted(self._due)

    def due(self, now: float) -> list[int]:
        """Returns the workers to start now; each is returned once.

        Args:
            now: Seconds, of the same clock.
        """
        workers = [w for w in self.waiting if self._due[w] <= now]
        for worker in workers:
            del self._due[worker]
        return workers

    def cancel(self) -> list[int]:
        """Plans no more; returns the workers that were still waiting."""
        cancelled = self.waiting
        for worker in cancelled:
            self.counts[worker] -= 1
        self._due.clear()
        return cancelled
