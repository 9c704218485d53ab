"""Runs a group of workers to its end: restarts, signals, and a summary."""

import contextlib
import math
import time
from collections.abc import Callable
from typing import Any

from tfdp.board import Comeback, Standing
from tfdp.checks import checked_count, checked_number
from tfdp.launching.journal import Journal
from tfdp.launching.worker_failure import (
    WorkerFailure,
    WorkerOutcome,
    signal_name,
)
from tfdp.launching.worker_group import WorkerGroup
from tfdp.machine import ending_signals

_TIMED_OUT = 124
_POLL_SECONDS = 0.05


class Launcher:
    """Runs a group of workers, and starts all of them again when one fails.

    SIGINT and SIGTERM are passed on to the workers; a second signal kills
    them. Must run in the main thread, which is where Python handles signals.

    Args:
        start_group: Called as `start_group(restart_count)`; returns a new
            group.
        max_restarts: How often a group may be started again. Defaults to 0.
        timeout: Seconds after which to end the workers, restarts included.
            Defaults to `None`, no limit.
        say: Called with each message to the user.

    Attributes:
        say: As given.

    Raises:
        TypeError: If a number is none.
        ValueError: If one is negative, or `timeout` zero or not finite.

    Example:

    >>> launcher = Launcher(lambda count: WorkerGroup(["true"], 1), say=print)
    >>> launcher.run()  # doctest: +ELLIPSIS
    1 worker ended after ... s
    0
    """

    def __init__(
        self,
        start_group: Callable[[int], WorkerGroup],
        *,
        say: Callable[[str], object],
        max_restarts: int = 0,
        timeout: float | None = None,
    ) -> None:
        """Starts nothing yet."""
        self._start_group = start_group
        self.say = say
        self._max_restarts = checked_count(
            "max_restarts", max_restarts, minimum=0
        )
        if timeout is not None:
            timeout = checked_number("timeout", timeout)
        self._timeout = timeout
        self._started = math.nan
        self._group: WorkerGroup | None = None
        self._signal = 0
        self._remark = ""
        self._restarts = 0
        self._comeback: Comeback | None = None
        self._journal = Journal(say)

    @property
    def was_signalled(self) -> bool:
        """Whether this process was told to end by a signal."""
        return bool(self._signal)

    def run(self) -> int:
        """Runs the workers until they have succeeded, or may not go on.

        Returns:
            0 where all workers of the last attempt ended with 0, or the group
            says so; after a signal to this process 128 plus its number; after
            `timeout` 124; else the exit code of the worker that failed.

        Raises:
            OSError: If a worker cannot be started, or its output not be
                passed on.
        """
        self._started = time.monotonic()
        outcomes: list[list[WorkerOutcome]] = []
        with ending_signals(self._handle):
            exit_code, is_final = self._waited(0.0)
            while not is_final:
                exit_code, is_final = self._attempt(outcomes)
        self._summarize(outcomes, exit_code)
        return exit_code

    def pause_after(
        self, group: WorkerGroup, failure: WorkerFailure | None
    ) -> float | None:
        """Says when the next group begins, and tells of it.

        Args:
            group: The one that has ended.
            failure: What has ended it; `None` where it was ended to begin
                anew.

        Returns:
            Seconds until then, or `None` where there is to be no other.
        """
        self._restarts += 1
        if self._restarts > self._max_restarts:
            return None
        self.say(f"restart {self._restarts} of {self._max_restarts}")
        return 0.0

    def size_of(self, group: WorkerGroup) -> int:
        """Returns how many workers a group has, wherever they are.

        Args:
            group: One that has begun.
        """
        return len(group.pids)

    def holds_back(self, now: float) -> bool:
        """Whether the next group may not begin yet, though its time has come.

        Args:
            now: Seconds, of `time.monotonic`.
        """
        return False

    def _attempt(self, outcomes: list[list[WorkerOutcome]]) -> tuple[int, bool]:
        failure: WorkerFailure | None = None
        timeout_message = ""
        self._journal.expect()
        with self._start_group(len(outcomes)) as group:
            self._group = group
            group.boards.hear_first_update(self._tell_of_comeback)
            self._journal.begin(group.boards, workers=self.size_of(group))
            if self._signal:
                group.end(self._signal)
            try:
                failure = group.wait(self._seconds_left())
            except TimeoutError as error:
                timeout_message = str(error)
            outcomes.append(group.outcomes)
        self._journal.end(group.boards, failure)
        if self._signal:
            return 128 + self._signal, True
        if timeout_message:
            self.say(timeout_message)
            return self._timed_out(), True
        if failure is None and not group.begins_anew:
            self._remark = group.remark
            is_alone = not self._remark and not group.boards.has_begun()
            if is_alone and self.size_of(group) > 1:
                self.say(
                    "no worker has made a strategy, so that each has done all "
                    "by itself; tfdp.auto_strategy() makes one of all workers"
                )
            return group.exit_code, True
        exit_code = 0
        if failure is not None:
            exit_code = failure.exit_code
            self.say(str(failure))
        pause = self.pause_after(group, failure)
        if pause is None:
            return exit_code, True
        self._comeback = _comeback(group, failure)
        return self._waited(pause)

    def _tell_of_comeback(self, standing: Standing) -> None:
        if self._comeback:
            self.say(self._comeback.words(standing))

    def _waited(self, pause: float) -> tuple[int, bool]:
        self._group = None
        until = time.monotonic() + pause
        while (now := time.monotonic()) < until or self.holds_back(now):
            time.sleep(_POLL_SECONDS)
            if self._signal:
                return 128 + self._signal, True
            if self._seconds_left() == 0:
                return self._timed_out(), True
        return 0, False

    def _timed_out(self) -> int:
        self.say(f"the {self._timeout:g} s of all attempts have passed")
        return _TIMED_OUT

    def _seconds_left(self) -> float | None:
        if self._timeout is None:
            return None
        return max(self._timeout - (time.monotonic() - self._started), 0.0)

    def _handle(self, number: int, frame: Any) -> None:
        is_first = not self._signal
        self._signal = self._signal or number
        if self._group:
            self._group.end(number)
        if is_first:
            # It may have come while this very stream was written to.
            with contextlib.suppress(RuntimeError, OSError):
                told = "the workers are told; a second signal kills them"
                self.say(
                    f"{signal_name(number)}: "
                    f"{told if self._group else 'there is no worker now'}"
                )

    def _summarize(
        self, outcomes: list[list[WorkerOutcome]], exit_code: int
    ) -> None:
        if exit_code or len(outcomes) > 1 or self._remark:
            for attempt, group in enumerate(outcomes, start=1):
                prefix = f"attempt {attempt}, " if len(outcomes) > 1 else ""
                for outcome in group:
                    self.say(f"{prefix}{outcome}")
            goodput = self._journal.goodput
            if len(outcomes) > 1 and goodput.made:
                self.say(f"goodput: {goodput}")
        if self._remark or (exit_code == 0 and len(outcomes) == 1):
            count = len({outcome.worker for outcome in outcomes[-1]})
            seconds = time.monotonic() - self._started
            workers = f"{count} worker{'s' if count > 1 else ''}"
            remark = self._remark and f": {self._remark}"
            self.say(f"{workers} ended after {seconds:.0f} s{remark}")


def _comeback(group: WorkerGroup, failure: WorkerFailure | None) -> Comeback:
    """Returns since when there is no update, and what has followed so far."""
    boards, ended = group.boards, time.monotonic()
    standings = boards.standings()
    if failure is None:
        last = max((x.updated for x in standings.values() if x), default=0.0)
        return Comeback(last or ended, last or ended, ended)
    standing = standings.get(failure.worker)
    lost = standing.changed if standing else boards.looked
    return Comeback(lost, boards.looked, ended)
