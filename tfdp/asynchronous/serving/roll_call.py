"""Who of the expected workers has not come."""

import threading
from collections.abc import Callable

_SECONDS_TO_TELL = 10.0
_MOST_SECONDS = 30.0


class RollCall:
    """Waits for workers once the chief is there, with a patience.

    Batches of a worker that has not come are kept for it, so that others may
    wait for them at the end of an epoch. After the patience they go to the
    others, until it comes.

    Args:
        absent: Returns those that have not come.
        lose: Called with each of them after the patience.
        say: Writes a line.
        seconds: How long to wait; 30 at the most.
        tell_after: Seconds after which to say whom the others wait for.

    Example:

    >>> call = RollCall(lambda: [1], print, print, seconds=0.1)
    >>> call.begin().join()  # doctest: +NORMALIZE_WHITESPACE
    1
    worker 1 has not come in 0.1 s. The others take its batches; it may still
    join.
    """

    def __init__(
        self,
        absent: Callable[[], list[int]],
        lose: Callable[[int], object],
        say: Callable[[str], object],
        *,
        seconds: float,
        tell_after: float = _SECONDS_TO_TELL,
    ) -> None:
        self._absent, self._lose, self._say = absent, lose, say
        self._seconds = min(seconds, _MOST_SECONDS)
        self._tell_after = min(tell_after, self._seconds)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._wait, daemon=True)

    def begin(self) -> threading.Thread:
        """Begins to wait, if it has not; returns what does."""
        if self._thread.ident is None:
            self._thread.start()
        return self._thread

    def end(self) -> None:
        """Waits for nobody any more."""
        self._is_over.set()

    def _wait(self) -> None:
        left = self._seconds - self._tell_after
        if self._is_over.wait(self._tell_after):
            return
        absent = self._absent()
        if absent and left:
            self._say(
                f"{_named(absent, 'has', 'have')} not come in "
                f"{self._tell_after:g} s. In {left:g} s the others take "
                f"{_theirs(absent)} batches."
            )
        if self._is_over.wait(left):
            return
        absent = self._absent()
        for worker in absent:
            self._lose(worker)
        if absent:
            self._say(
                f"{_named(absent, 'has', 'have')} not come in "
                f"{self._seconds:g} s. The others take {_theirs(absent)} "
                f"batches; {'it' if len(absent) == 1 else 'they'} may still "
                "join."
            )


def _named(workers: list[int], one: str, several: str) -> str:
    if len(workers) == 1:
        return f"worker {workers[0]} {one}"
    return f"workers {', '.join(map(str, workers))} {several}"


def _theirs(workers: list[int]) -> str:
    return "its" if len(workers) == 1 else "their"
