"""How long workers vote between steps."""

from collections.abc import Callable, Iterable

import keras

from tfdp.callbacks.data_parallel import DataParallel


class VoteWatch:
    """Sums up the seconds of votes on stops and backups.

    Args:
        callbacks: Those of a fit; some of them tell when they hold votes.
        clock: Returns the time in seconds.
    """

    def __init__(
        self,
        callbacks: Iterable[keras.callbacks.Callback],
        clock: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._begin: float | None = None
        self._seconds = 0.0
        for callback in callbacks:
            if isinstance(callback, DataParallel):
                callback.watch_votes(self._see)

    def take(self) -> float:
        """Returns the seconds since it was last asked."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def _see(self) -> None:
        # Called at the begin and at the end of each.
        if self._begin is None:
            self._begin = self._clock()
        else:
            self._seconds += self._clock() - self._begin
            self._begin = None
