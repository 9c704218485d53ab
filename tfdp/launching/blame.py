"""Which worker of a group has failed first, seen from what all of them do.

When one vanishes, the others fail too, and an exit code alone does not tell
which was the cause. TensorFlow aborts (SIGABRT) a process that has lost a
peer, so that such a death counts as an error of its own, not as a kill.
"""

import dataclasses
import signal
from collections.abc import Collection, Mapping

_SETTLE_SECONDS = 0.5
# Those that were killed together end within that.
_SETTLE_SECONDS_OF_KILLED = 0.1
_STOPPED_SECONDS = 3.0
# Looks are this far apart only if this process was itself stopped meanwhile.
_GAP_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class Culprit:
    """The worker to blame.

    Attributes:
        worker: Its index.
        returncode: Its exit code, or minus the signal that killed or stopped
            it.
        stopped_seconds: How long it has been stopped; `None` where it has
            ended.
        stalled_seconds: How long it has made no progress; `None` where that
            is not why.
        lost_at: When it was lost, as far as that is known, by the clock of who
            looks.
    """

    worker: int
    returncode: int
    stopped_seconds: float | None = None
    stalled_seconds: float | None = None
    lost_at: float | None = dataclasses.field(
        default=None, compare=False, repr=False
    )


class Blame:
    """Finds the culprit among workers that are looked at again and again.

    A failure is not judged at once: another worker, which caused it, may be
    found dead or stopped within half a second; where one is found killed, a
    tenth of a second is enough. Then is blamed, in this order, who was killed
    by a signal, who is stopped, and who failed first; of several at the same
    look, the one with the lowest index. A worker that is stopped for 3 seconds
    has failed by that, unless this process was stopped as well.

    Example:

    >>> blame = Blame()
    >>> blame.look(0.0, {0: None, 1: None})
    >>> blame.look(0.1, {0: 1, 1: None})
    >>> blame.look(0.2, {0: 1, 1: -9})
    Culprit(worker=1, returncode=-9, stopped_seconds=None, stalled_seconds=None)
    """

    def __init__(self) -> None:
        """Starts with nobody to blame."""
        self._last_look: float | None = None
        self._stopped_since: dict[int, float] = {}
        self._failed: dict[int, tuple[float, int]] = {}

    @property
    def has_seen_failure(self) -> bool:
        """Whether a worker has failed, judged or not."""
        return bool(self._failed)

    def look(
        self,
        now: float,
        returncodes: Mapping[int, int | None],
        stopped: Collection[int] = (),
    ) -> Culprit | None:
        """Takes note of the workers at one moment.

        Args:
            now: Seconds, of a clock that only goes forward.
            returncodes: By index of the worker; `None` while it runs.
            stopped: Indices of those that are stopped. Defaults to none.

        Returns:
            The culprit, once there is one beyond doubt, or `None`.
        """
        if self._last_look is None or now - self._last_look > _GAP_SECONDS:
            self._stopped_since.clear()
        self._last_look = now
        self._stopped_since = {
            w: self._stopped_since.get(w, now) for w in stopped
        }
        for worker, code in returncodes.items():
            if code:
                self._failed.setdefault(worker, (now, code))
        if not self._failed:
            return self._stopped(now, at_least=_STOPPED_SECONDS)
        is_over = None not in returncodes.values()
        killed = self._killed()
        settle = _SETTLE_SECONDS_OF_KILLED if killed else _SETTLE_SECONDS
        if is_over or now - self._since >= settle:
            return killed or self._stopped(now) or self._first()
        return None

    @property
    def _since(self) -> float:
        return min(moment for moment, _ in self._failed.values())

    def _killed(self) -> Culprit | None:
        killed = [
            (moment, worker, code)
            for worker, (moment, code) in self._failed.items()
            if code < 0 and code != -signal.SIGABRT
        ]
        if not killed:
            return None
        return Culprit(*min(killed)[1:], lost_at=self._since)

    def _stopped(self, now: float, at_least: float = 0.0) -> Culprit | None:
        for worker, since in sorted(self._stopped_since.items()):
            if now - since >= at_least:
                return Culprit(
                    worker, -signal.SIGSTOP, now - since, lost_at=since
                )
        return None

    def _first(self) -> Culprit:
        _, _, worker, code = min(
            (moment, code > 0, worker, code)
            for worker, (moment, code) in self._failed.items()
        )
        return Culprit(worker, code, lost_at=self._since)
