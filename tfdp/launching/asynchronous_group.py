"""Local worker processes that go on without those that fall."""

import signal
from collections.abc import Callable, Mapping
from typing import Any

from tfdp.launching.blame import Culprit
from tfdp.launching.restarts import Restarts
from tfdp.launching.survival import CHIEF, Fall, Survival
from tfdp.launching.worker_failure import WorkerFailure, WorkerOutcome
from tfdp.launching.worker_group import WorkerGroup


class AsynchronousGroup(WorkerGroup):
    """A group in which a worker that falls ends nobody else.

    It is started again by itself, after a pause. Worker 0, the chief, has the
    server as its child: where it fails, or has been stopped (SIGSTOP) for 3
    seconds, all end together. A worker that is stopped is the server's matter.
    Once the chief has ended with 0, nobody is started again, and the others
    have `patience` seconds to end.

    Args:
        *args: As for `WorkerGroup`.
        restarts: Who may be started again, and when. Defaults to `None`,
            nobody.
        patience: Seconds to end after the chief has ended. Defaults to 30.
        on_fall: Called with the `WorkerFailure` of each worker that falls but
            for the chief, from `wait`. Defaults to nothing.
        **kwargs: As for `WorkerGroup`.

    Raises:
        ValueError: If some workers are elsewhere, and no secret is given.
        Exception: As for `WorkerGroup`.

    Example:

    >>> command = ["sh", "-c", "case $TF_CONFIG in *1}}) exit 3; esac"]
    >>> with AsynchronousGroup(command, num_workers=3) as group:
    ...     failure = group.wait(timeout=60)
    >>> print(failure, group.lost[1].exit_code)
    None 3
    """

    fate = (
        "It is the chief, without which nobody trains: all other workers were "
        "ended."
    )
    is_asynchronous = True

    def __init__(
        self,
        *args: Any,
        restarts: Restarts | None = None,
        patience: float = 30.0,
        on_fall: Callable[[WorkerFailure], object] = lambda failure: None,
        **kwargs: Any,
    ) -> None:
        """Starts the workers."""
        self._lost: dict[int, WorkerFailure] = {}
        self._restarts = restarts or Restarts(0)
        self._survival = Survival(self._restarts, patience=patience)
        self._on_fall = on_fall
        self._before: list[WorkerOutcome] = []
        super().__init__(*args, **kwargs)

    @property
    def outcomes(self) -> list[WorkerOutcome]:
        """What has become of each worker so far, at each of its starts."""
        found = [*self._before, *super().outcomes]
        return sorted(found, key=lambda outcome: outcome.worker)

    @property
    def lost(self) -> Mapping[int, WorkerFailure]:
        """The last failure of each worker that was not started again."""
        return self._lost

    @property
    def exit_code(self) -> int:
        """Exit code of the job, where `wait` has found no failure.

        It is 0 where the chief is here. Where it is elsewhere, and every
        worker was lost, that of the first one.
        """
        if len(self.lost) < len(self.processes):
            return 0
        return next(iter(self.lost.values())).exit_code

    @property
    def remark(self) -> str:
        """How many workers were lost, and how often others started again."""
        counts = self._restarts.counts
        again = sum(counts.values())
        told = []
        if self.lost:
            names = ", ".join(map(str, sorted(self.lost)))
            told.append(f"{len(self.lost)} lost (worker {names})")
        if again:
            times = ", ".join(
                f"worker {w}: {counts[w]}" for w in sorted(counts) if counts[w]
            )
            told.append(f"{again} restart{'s' * (again > 1)} ({times})")
        return "; ".join(told)

    def judge(
        self, now: float, codes: Mapping[int, int | None]
    ) -> Culprit | None:
        """Returns the chief, if it has failed; sees to those that fall."""
        if CHIEF in codes:
            code = codes[CHIEF]
            stopped = code is None and self.processes[CHIEF].is_stopped
            culprit = self.blame.look(
                now, {CHIEF: code}, [CHIEF] if stopped else []
            )
            if culprit:
                return culprit
        for fall in self._survival.look(now, codes):
            self._let_fall(fall)
        for worker in self._survival.due(now):
            self._start_again(worker)
        return None

    def unfinished(self, codes: Mapping[int, int | None]) -> list[int]:
        """Returns the workers to wait for, until all are to end."""
        if self.is_ending:
            return super().unfinished(codes)
        return self._survival.unfinished(codes)

    def _let_fall(self, fall: Fall) -> None:
        code = fall.returncode
        if code is None:
            # It is ended when nobody else is waited for.
            code = -signal.SIGTERM
        else:
            self.release(fall.worker)
        failure = self.failure(Culprit(fall.worker, code), fall.fate)
        if fall.is_lost:
            self._lost[fall.worker] = failure
        self._on_fall(failure)

    def _start_again(self, worker: int) -> None:
        count = self._restarts.counts[worker]
        before = self.processes[worker]
        try:
            self.restart(worker, count)
        except OSError as error:
            if self.processes[worker] is not before:
                raise
            # As its last life has failed, so has this one.
            code = before.poll() or -signal.SIGKILL
            fate = f"It could not be started again: {error.strerror}."
            self._on_fall(self.failure(Culprit(worker, code), fate))
            return
        self._before.append(before.outcome)
        if self.is_ending:
            # A signal has come meanwhile, of which it knows nothing.
            self.processes[worker].send(signal.SIGTERM)
