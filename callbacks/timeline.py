"""Single steps of all workers, gathered while they train."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from tfdp.agreement import all_gather, compared_clocks
from tfdp.board import own_board
from tfdp.run_log import Diary
from tfdp.throughput import WIDTH, StepLog, no_rows

# Between two comparisons of clocks, which may drift apart.
_SECONDS = 60.0


class TimelineListener(Protocol):
    """Who is told of single steps, by the clock of the chief."""

    def append_clocks(
        self, time: float, offsets: Sequence[float], errors: Sequence[float]
    ) -> None:
        """Hears how the clocks of workers differ."""

    def append_rows(self, time: float, by_worker: Sequence[np.ndarray]) -> None:
        """Hears what they have done."""


class Timeline:
    """What a fit tells of single steps, where anybody on any worker listens.

    Args:
        strategy: The strategy whose workers meet.
        clock: Returns the time of the stamps; `None` for TensorFlow's own.
    """

    def __init__(
        self, strategy: Any, clock: Callable[[], float] | None
    ) -> None:
        self._strategy = strategy
        self._graph_clock = clock
        self._clock = clock or time.time
        self._own_every = self._every = self._step = 0
        self._listeners: list[TimelineListener] = []
        self._diary: Diary | None = None
        self._compared_at: float | None = None

    def listen(self, every: int, listener: TimelineListener) -> None:
        """Has a listener told from the next epoch on.

        Args:
            every: As many steps are told of first, and then every so many.
            listener: Told on this worker.
        """
        self._own_every = max(self._own_every, every)
        self._listeners.append(listener)

    @property
    def wishes(self) -> list[int]:
        """What the others must know, to do the same in `begin_epoch`."""
        is_due = (
            self._compared_at is None
            or self._clock() - self._compared_at > _SECONDS
        )
        return [self._own_every, int(is_due)]

    def begin_epoch(self, wishes: np.ndarray) -> None:
        """Compares clocks, where it is time; a collective.

        Args:
            wishes: Those of all workers, `[workers, 2]`.
        """
        self._every = int(wishes[:, 0].max())
        if not self._every:
            return
        if self._diary is None:
            self._diary = Diary(own_board(), self._clock)
        if wishes[:, 1].any():
            self._compare()

    def begin_step(self) -> int:
        """Returns the number of the step that begins; -1 if it is not told."""
        if self._diary is None:
            return -1
        step, self._step = self._step, self._step + 1
        tells = step < self._every or step % self._every == 0
        self._diary.tells_step = tells
        return step if tells else -1

    def take(self, log: StepLog) -> np.ndarray:
        """Returns what this worker has to tell, and forgets it.

        Args:
            log: Its steps.
        """
        steps = log.take_rows()
        if self._diary is None:
            return no_rows()
        return np.concatenate([steps, self._diary.take()])

    def tell(self, by_worker: Sequence[np.ndarray]) -> None:
        """Tells the listeners.

        Args:
            by_worker: What each worker has taken.
        """
        if any(map(len, by_worker)):
            for listener in self._listeners:
                listener.append_rows(self._clock(), by_worker)

    def end(self) -> None:
        """Tells of what came after the last window; a collective."""
        if self._diary is None:
            return
        rows = self._diary.take()
        self._diary.close()
        counts = all_gather(self._strategy, [len(rows)])[:, 0]
        padded = np.zeros((max(counts.max(), 1), WIDTH))
        padded[: len(rows)] = rows
        table = all_gather(self._strategy, padded.ravel())
        self._compare()
        self.tell(
            [
                row.reshape(padded.shape)[:count]
                for row, count in zip(table, counts, strict=True)
            ]
        )

    def _compare(self) -> None:
        clocks = compared_clocks(self._strategy, self._graph_clock)
        self._compared_at = self._clock()
        for listener in self._listeners:
            listener.append_clocks(self._compared_at, *clocks)
