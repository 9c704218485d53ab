"""A launcher's account of its workers' time."""

import json
import os
import time
from collections.abc import Callable
from typing import Any, Protocol

from tfdp.board import BoardFolder
from tfdp.report.goodput import Attempt, Goodput

_CHIEF = 0


class Loss(Protocol):
    """Of a worker, for which all have ended."""

    @property
    def worker(self) -> int:
        """Its index."""

    @property
    def exit_code(self) -> int:
        """Its exit code."""

    @property
    def stopped_seconds(self) -> float | None:
        """How long it had been stopped."""

    @property
    def stalled_seconds(self) -> float | None:
        """How long it had made no progress."""

    @property
    def lost_at(self) -> float | None:
        """When it was lost, by the clock of the boards."""


class Journal:
    """Writes starts, losses and ends into the logs of the workers' runs.

    The chief tells by its board which log it writes (`callbacks.RunLogger`).
    Rows are kept until then, and are in the file as soon as they are known
    later. Launchers without the chief write nothing.

    Args:
        say: Called with each message to the user.
        clock: Returns the time of the boards. Defaults to `time.monotonic`.
        wall_clock: Returns the seconds since 1970. It is read once, so that a
            clock that is set makes no time longer. Defaults to `time.time`.

    Attributes:
        attempts: What is known of each start of the workers that has ended.

    Example:

    >>> journal = Journal(print)
    >>> journal.expect()
    >>> boards = BoardFolder([0])
    >>> variables = boards.begin(0)
    >>> journal.begin(boards, workers=1)
    >>> boards.close()
    >>> journal.end(boards)
    >>> journal.goodput.starts
    1
    """

    def __init__(
        self,
        say: Callable[[str], object],
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Notes when the launcher has begun."""
        self.attempts: list[Attempt] = []
        self._say = say
        self._clock = clock
        self._launched = self._started = clock()
        self._offset = wall_clock() - self._launched
        self._rows: list[dict[str, Any]] = []
        self._written: dict[str, int] = {}
        self._is_told = False

    @property
    def goodput(self) -> Goodput:
        """That of all starts that have ended."""
        return Goodput.of(self.attempts)

    def expect(self) -> None:
        """Notes that workers are about to be started."""
        self._started = self._clock()

    def begin(self, boards: BoardFolder, *, workers: int) -> None:
        """Notes that they are started.

        Args:
            boards: Theirs.
            workers: How many they are here.
        """
        if _CHIEF in boards.standings() and boards.name:
            self._append(
                "start",
                self._started,
                boards.name,
                launched=self._launched + self._offset,
                workers=workers,
            )
            self._write(boards)

    def end(
        self,
        boards: BoardFolder,
        failure: Loss | None = None,
    ) -> None:
        """Notes that all of them have ended.

        Args:
            boards: Theirs, as they were left.
            failure: Of the one that was lost, if that has ended them.
        """
        standing = boards.standings().get(_CHIEF)
        if standing is None or not boards.name:
            return
        ended = self._clock()
        lost_at = None
        if failure is not None:
            lost_at = ended if failure.lost_at is None else failure.lost_at
            lost_at = min(max(lost_at, self._started), ended)
        # Nobody knows what a process does after it was heard of last.
        stop = standing.changed if lost_at is None else lost_at
        spent = standing.seconds_until(stop)
        before = max(min(standing.begun, stop) - self._started, 0.0)
        spent["starting"] = spent.get("starting", 0.0) + before
        known: dict[str, Any] = {
            "spent": spent,
            "update": standing.update,
            "made": standing.made,
            "unfinished": standing.unfinished_at(stop),
        }
        self.attempts.append(
            Attempt(
                self._started,
                ended,
                launched=self._launched,
                lost=lost_at,
                **known,
            )
        )
        if failure is not None and lost_at is not None:
            self._append(
                "loss",
                lost_at,
                boards.name,
                worker=failure.worker,
                exit_code=failure.exit_code,
                stopped_seconds=failure.stopped_seconds,
                stalled_seconds=failure.stalled_seconds,
            )
        self._append("exit", ended, boards.name, **known)
        self._write(boards)

    def _append(
        self, kind: str, moment: float, name: str, **others: Any
    ) -> None:
        row = {"kind": kind, "time": moment + self._offset, "attempt": name}
        self._rows.append({**row, **others})

    def _write(self, boards: BoardFolder) -> None:
        for log in [*self._written, *boards.logs]:
            rows = self._rows[self._written.get(log, 0) :]
            if not rows:
                continue
            try:
                _append(log, "".join(json.dumps(row) + "\n" for row in rows))
            except OSError as error:
                if not self._is_told:
                    self._say(
                        "Starts and ends are logged to a file that can be "
                        f"written to. Received: {log} ({error.strerror}). They "
                        "are written later, if there is room."
                    )
                self._is_told = True
                self._written.setdefault(log, 0)
            else:
                self._written[log] = len(self._rows)


def _append(path: str, text: str) -> None:
    with open(path, "r+b") as file:
        # One that was killed may have left half a line.
        file.truncate(file.read().rfind(b"\n") + 1)
        file.seek(0, os.SEEK_END)
        file.write(text.encode())
