"""Runs workers that become fewer and more, to their end."""

import signal
import time
from collections.abc import Callable
from typing import Any

from tfdp.elastic.elastic_group import ElasticGroup
from tfdp.elastic.slots import Slots
from tfdp.launch import Launcher, WorkerFailure, WorkerGroup

_MOST_IN_VAIN = 5


class ElasticLauncher(Launcher):
    """Goes on with the workers that are left, and with more when there are.

    Whenever a worker falls, all begin anew, with those that are ready; each
    has its place among these. So they do when a slot that was empty is ready
    again, after a backup. Five starts in a row without an update end the job.

    Args:
        start_group: Called as `start_group(restart_count, num_workers=...,
            could_grow=...)`; returns a new `ElasticGroup`.
        slots: Which slots have a worker.
        max_restarts: How often workers may fall; those that more workers
            begin do not count. Defaults to 100.
        **kwargs: As for `Launcher`.

    Raises:
        Exception: As for `Launcher`.

    Example:

    >>> def start_group(restart_count, **kwargs):
    ...     return ElasticGroup(["true"], **kwargs)
    >>> ElasticLauncher(start_group, slots=Slots(1, 3), say=print).run()
    ... # doctest: +ELLIPSIS
    3 workers ended after ... s
    0
    """

    def __init__(
        self,
        start_group: Callable[..., ElasticGroup],
        *,
        slots: Slots,
        max_restarts: int = 100,
        **kwargs: Any,
    ) -> None:
        """Starts nothing yet."""
        super().__init__(self._start, max_restarts=max_restarts, **kwargs)
        self._start_elastic = start_group
        self._slots = slots
        self._used: list[int] = []
        self._in_vain = 0

    def pause_after(
        self, group: WorkerGroup, failure: WorkerFailure | None
    ) -> float | None:
        """Says when the next group begins, and tells of it.

        Args:
            group: The one that has ended.
            failure: What has ended it; `None` where more are to begin.
        """
        now = time.monotonic()
        if failure is not None:
            if self._is_fruitless(group):
                return None
            if super().pause_after(group, failure) is None:
                return None
            fallen = [self._used[w] for w in _fallen(group, failure)]
            self._slots.fall(fallen, now=now)
        begin = self._slots.begin_at(now)
        count = len(self._slots.ready(begin))
        change = "more" if count > len(self._used) else "fewer"
        if count == len(self._used):
            change = "as before"
        when = f" in {begin - now:.0f} s" if begin - now >= 1 else ""
        self.say(f"going on with {_workers(count)}{when}, {change}")
        return begin - now

    def _is_fruitless(self, group: WorkerGroup) -> bool:
        has_updates = group.boards.updates_made > 0
        self._in_vain = 0 if has_updates else self._in_vain + 1
        if self._in_vain < _MOST_IN_VAIN:
            return False
        self.say(f"{_MOST_IN_VAIN} starts in a row have made no update")
        return True

    def _start(self, restart_count: int) -> ElasticGroup:
        # A moment later than planned, more may be ready.
        self._used = self._slots.ready(time.monotonic())
        return self._start_elastic(
            restart_count,
            num_workers=len(self._used),
            could_grow=self._could_grow,
        )

    def _could_grow(self, now: float) -> bool:
        return len(self._slots.ready(now)) > len(self._used)


def _fallen(group: WorkerGroup, failure: WorkerFailure) -> list[int]:
    """Who has failed, and who else was killed meanwhile."""
    return [
        outcome.worker
        for outcome in group.outcomes
        if outcome.worker == failure.worker
        or (outcome.returncode == -signal.SIGKILL and not outcome.was_ended)
    ]


def _workers(count: int) -> str:
    return f"{count} worker{'s' * (count > 1)}"
