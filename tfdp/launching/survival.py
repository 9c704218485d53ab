"""What becomes of the workers of a job that goes on without those that fall."""

import dataclasses
from collections.abc import Mapping

from tfdp.launching.restarts import Restarts

# Of an asynchronous job: it has the server as its child.
CHIEF = 0
# The chief may be found lost meanwhile, which takes the others with it.
_SETTLE_SECONDS = 0.5
# For one that was started again right before the chief's end.
_SHORT_PATIENCE = 3.0


@dataclasses.dataclass(frozen=True)
class Fall:
    """A worker that has fallen, while the others go on.

    Attributes:
        worker: Its index.
        returncode: Its exit code, or minus the signal that killed it; `None`
            where it still runs, but may no longer.
        fate: A sentence on what becomes of it.
        is_lost: Whether it is not started again.
    """

    worker: int
    returncode: int | None
    fate: str
    is_lost: bool


class Survival:
    """Judges workers that are looked at again and again, but for the chief.

    A fall is judged after half a second, in which the chief may be found to be
    its cause. Once the chief has ended with 0, nobody is started again, and
    those that still run have a time to end. Who was started again shortly
    before finds the server gone, and has little to end: its time is as long as
    it had run by then, and a few seconds at least.

    Args:
        restarts: Who may be started again, and when.
        patience: Seconds to end after the chief has ended.

    Example:

    >>> survival = Survival(Restarts(1), patience=30.0)
    >>> survival.look(0.0, {0: None, 1: -9})
    []
    >>> (fall,) = survival.look(0.6, {0: None, 1: -9})
    >>> print(fall.fate)
    The others go on. It is started again in 1 s (restart 1 of 1).
    >>> survival.look(1.0, {0: None, 1: -9}), survival.due(1.6)
    ([], [1])
    """

    def __init__(self, restarts: Restarts, *, patience: float) -> None:
        """Has seen nobody fall."""
        self.restarts = restarts
        self._patience = patience
        self._seen: dict[int, float] = {}
        self._told: set[int] = set()
        self._chief_ended: float | None = None
        self._restarted: dict[int, float] = {}

    def look(
        self, now: float, returncodes: Mapping[int, int | None]
    ) -> list[Fall]:
        """Takes note of the workers at one moment.

        Args:
            now: Seconds, of a clock that only goes forward.
            returncodes: By index of the worker; `None` while it runs.

        Returns:
            Those who have fallen; each fall is returned once.
        """
        if self._chief_ended is None and returncodes.get(CHIEF) == 0:
            self._chief_ended = now
        falls = []
        for worker, code in returncodes.items():
            if worker == CHIEF or worker in self._told:
                continue
            if code:
                since = self._seen.setdefault(worker, now)
                if now - since >= _SETTLE_SECONDS:
                    self._told.add(worker)
                    falls.append(self._judged(now, worker, code))
            elif code is None and self._is_overdue(now, worker):
                self._told.add(worker)
                fate = self._too_late(worker)
                falls.append(Fall(worker, None, fate, is_lost=True))
        if self._chief_ended is not None:
            fate = "The chief has ended meanwhile: it is not started again."
            falls += [
                Fall(worker, returncodes[worker], fate, is_lost=True)
                for worker in self.restarts.cancel()
            ]
        return falls

    def due(self, now: float) -> list[int]:
        """Returns the workers to start now; each is returned once.

        Args:
            now: Seconds, of the same clock.
        """
        workers = self.restarts.due(now)
        for worker in workers:
            self._told.discard(worker)
            self._seen.pop(worker, None)
            self._restarted[worker] = now
        return workers

    def unfinished(self, returncodes: Mapping[int, int | None]) -> list[int]:
        """Returns the workers to wait for: for their end, or what is told then.

        Args:
            returncodes: By index of the worker; `None` while it runs.
        """
        waiting = self.restarts.waiting
        return [
            worker
            for worker, code in returncodes.items()
            if worker in waiting or (code != 0 and worker not in self._told)
        ]

    def _is_overdue(self, now: float, worker: int) -> bool:
        since = self._chief_ended
        return since is not None and now - since >= self._patience_with(worker)

    def _patience_with(self, worker: int) -> float:
        if self._chief_ended is None or worker not in self._restarted:
            return self._patience
        had_run = self._chief_ended - self._restarted[worker]
        return min(self._patience, max(had_run, _SHORT_PATIENCE))

    def _too_late(self, worker: int) -> str:
        patience = self._patience_with(worker)
        again = ""
        if patience < self._patience:
            again = "It was starting again when the job came to its end. "
        return (
            f"{again}It still ran {patience:.3g} s after the chief had ended "
            "with 0, and was ended."
        )

    def _judged(self, now: float, worker: int, code: int) -> Fall:
        if self._chief_ended is not None:
            fate = "The chief has ended: it is not started again."
            return Fall(worker, code, fate, is_lost=True)
        pause = self.restarts.plan(worker, now)
        most = self.restarts.most
        if pause is None:
            after = f" after {most} restart{'s' * (most > 1)}" if most else ""
            fate = f"The others go on without it{after}."
            return Fall(worker, code, fate, is_lost=True)
        count = self.restarts.counts[worker]
        return Fall(
            worker,
            code,
            f"The others go on. It is started again in {pause:g} s (restart "
            f"{count} of {most}).",
            is_lost=False,
        )
