"""How long workers have voted."""

from collections.abc import Callable


class VoteTimer:
    """Adds up the time from every other call to the one after it.

    Args:
        clock: Returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._begin: float | None = None
        self._seconds = 0.0

    def __call__(self) -> None:
        """Begins a vote, or ends the one that has begun."""
        if self._begin is None:
            self._begin = self._clock()
        else:
            self._seconds += self._clock() - self._begin
            self._begin = None

    def take(self) -> float:
        """Returns the seconds of votes that have ended since the last call."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds
