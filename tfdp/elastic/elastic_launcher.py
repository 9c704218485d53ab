"""Runs workers that become fewer and more, to their end."""

import time
from collections.abc import Callable
from typing import Any

from tfdp.elastic.elastic_group import ElasticGroup
from tfdp.elastic.slots import Slots
from tfdp.launching import Launcher, WorkerFailure, WorkerGroup

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

    Attributes:
        slots: As given.
        used: Slots of the workers of the last attempt, in order.
        start_elastic: `start_group`.

    Raises:
        Exception: As for `Launcher`.

    Example:

    >>> def start_group(restart_count, **kwargs):
    ...     return ElasticGroup(["true"], **kwargs)
    >>> ElasticLauncher(start_group, slots=Slots(1, 1), say=print).run()
    ... # doctest: +ELLIPSIS
    1 worker ended after ... s
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
        self.start_elastic = start_group
        self.slots = slots
        self.used: list[int] = []
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
            if self._is_fruitless():
                return None
            if super().pause_after(group, failure) is None:
                return None
            fallen = [self.used[w] for w in self._elastic.fallen(failure)]
            self.slots.fall(fallen, now=now)
        return self.plan(now)

    def plan(self, now: float) -> float:
        """Says when the next attempt begins, and with how many workers.

        Args:
            now: Seconds, of `time.monotonic`.

        Returns:
            Seconds until then.
        """
        begin = self.slots.begin_at(now)
        count = len(self.slots.ready(begin))
        self.tell(count, len(self.used), seconds=begin - now)
        return begin - now

    def tell(self, count: int, before: int, *, seconds: float = 0.0) -> None:
        """Says with how many workers it goes on.

        Args:
            count: How many.
            before: How many there were.
            seconds: When. Defaults to now.
        """
        change = "more" if count > before else "fewer"
        if count == before:
            change = "as before"
        when = f" in {seconds:.0f} s" if seconds >= 1 else ""
        self.say(f"going on with {_workers(count)}{when}, {change}")

    def could_grow(self, now: float) -> bool:
        """Whether more workers are ready than train.

        Args:
            now: Seconds, of `time.monotonic`.
        """
        return len(self.slots.ready(now)) > len(self.used)

    def _is_fruitless(self) -> bool:
        has_updates = self._elastic.updates_made > 0
        self._in_vain = 0 if has_updates else self._in_vain + 1
        if self._in_vain < _MOST_IN_VAIN:
            return False
        self.say(f"{_MOST_IN_VAIN} starts in a row have made no update")
        return True

    def _start(self, restart_count: int) -> ElasticGroup:
        # A moment later than planned, more may be ready.
        self.used = self.slots.ready(time.monotonic())
        self._elastic = self.start(restart_count)
        return self._elastic

    def start(self, restart_count: int) -> ElasticGroup:
        """Starts the workers of an attempt, in the slots that are used.

        Args:
            restart_count: How often workers were started before.
        """
        return self.start_elastic(
            restart_count,
            num_workers=len(self.used),
            could_grow=self.could_grow,
        )


def _workers(count: int) -> str:
    return f"{count} worker{'s' * (count > 1)}"
