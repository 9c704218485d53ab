"""What backups keep a training waiting for, and when the next one may."""

import contextlib
import math
from collections.abc import Callable, Iterator


class Pauses:
    """Measures the pauses of backups, and keeps those in memory rare enough.

    After a pause, a training goes on so long that the pause is no more than a
    share of both. So it is every update that is saved where that takes little,
    and every few where it takes more, without any estimate.

    Args:
        most: The share of the time that backups in memory may take; 0 for no
            such backups.
        clock: Returns the time in seconds.

    Attributes:
        counts: Backups made so far, `"memory"` alone, or on `"disk"` too.
        seconds: What training has waited for them.

    Example:

    >>> seconds = iter([0.0, 0.0, 1.0, 19.0, 20.0])
    >>> pauses = Pauses(0.05, lambda: next(seconds))
    >>> with pauses.of("memory"):
    ...     pass
    >>> pauses.is_due(), pauses.is_due(), pauses.counts["memory"]
    (False, True, 1)
    """

    def __init__(self, most: float, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._rest = (1 - most) / most if most else math.inf
        self._next = -math.inf if most else math.inf
        self.counts = {"memory": 0, "disk": 0}
        self.seconds = {"memory": 0.0, "disk": 0.0}
        self._told = (0, 0.0, clock())

    def is_due(self) -> bool:
        """Whether a backup in memory may be made now."""
        return self._next < math.inf and self._clock() >= self._next

    def row(self) -> dict[str, float]:
        """Returns counts and seconds, by names that say which."""
        return {
            **self.counts,
            **{f"{kind}_seconds": s for kind, s in self.seconds.items()},
        }

    def words(self, updates: int) -> str:
        """Says what backups in memory have taken since it was called last.

        Args:
            updates: Number of updates made meanwhile.

        Returns:
            A line; nothing where there were no such backups.
        """
        count, seconds, begun = self._told
        self._told = (
            self.counts["memory"],
            self.seconds["memory"],
            self._clock(),
        )
        count = self._told[0] - count
        seconds = self._told[1] - seconds
        if not count:
            return ""
        share = seconds / max(self._told[2] - begun, 1e-9)
        every = max(updates / count, 1)
        return (
            f"Backups in memory: {count}, one every {every:.1f} updates, "
            f"{seconds / count * 1e3:.1f} ms each, {share:.1%} of the time."
        )

    @contextlib.contextmanager
    def of(self, kind: str) -> Iterator[None]:
        """Measures a pause.

        Args:
            kind: `"memory"`, or `"disk"` for one that was asked for, and takes
                nothing of the share.
        """
        begun = self._clock()
        yield
        now = self._clock()
        self.counts[kind] += 1
        self.seconds[kind] += now - begun
        if kind == "memory":
            self._next = now + self._rest * (now - begun)
