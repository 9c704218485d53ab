"""Workers that end to begin anew with more of them."""

import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

from tfdp.launching import WorkerFailure, WorkerGroup
from tfdp.launching.blame import Culprit

_SETTLE_SECONDS = 60.0


class ElasticGroup(WorkerGroup):
    """A group that is ended where more workers could train.

    They are told by SIGTERM, at which a program with `BackupAndRestore` saves
    a backup; after its `fit` they are left alone. Where one has failed, the
    others are killed at once: they wait for it in an update that will not be,
    and go on from their last backup.

    Args:
        *args: As for `WorkerGroup`.
        could_grow: Called as `could_grow(now)` again and again, with
            `time.monotonic()`; whether there is room for more workers.
        settle_seconds: For how long workers are left alone that have made no
            update, which their boards would say. Defaults to 60.
        **kwargs: As for `WorkerGroup`.

    Raises:
        Exception: As for `WorkerGroup`.

    Example:

    >>> command = ["sleep", "60"]
    >>> group = ElasticGroup(
    ...     command, 1, could_grow=lambda now: True, settle_seconds=0
    ... )
    >>> print(group.wait(timeout=50), group.begins_anew)
    None True
    """

    failure_grace_seconds = 0.0

    def __init__(
        self,
        *args: Any,
        could_grow: Callable[[float], bool],
        settle_seconds: float = _SETTLE_SECONDS,
        **kwargs: Any,
    ) -> None:
        """Starts the workers."""
        self._could_grow = could_grow
        self._grows = False
        self._settled = time.monotonic() + settle_seconds
        super().__init__(*args, **kwargs)

    @property
    def updates_made(self) -> int:
        """How many updates the workers have made, by the most of them."""
        return self.boards.updates_made

    @property
    def begins_anew(self) -> bool:
        """Whether it was ended so that another one begins.

        Not where all have trained to the end meanwhile.
        """
        codes = [outcome.returncode for outcome in self.outcomes]
        return self._grows and any(codes)

    def judge(
        self, now: float, codes: Mapping[int, int | None]
    ) -> Culprit | None:
        """Returns whose failure has ended this attempt, if it has."""
        culprit = super().judge(now, codes)
        if (
            culprit is None
            and self.is_well(codes)
            and self._could_grow(now)
            and (now >= self._settled or self.updates_made)
        ):
            self.begin_anew()
        return culprit

    def is_well(self, codes: Mapping[int, int | None]) -> bool:
        """Whether all workers run, and none has failed.

        Args:
            codes: Exit code of each worker here; `None` while it runs.
        """
        has_failed = self.blame.has_seen_failure
        all_run = all(code is None for code in codes.values())
        return all_run and not (has_failed or self.is_past_training)

    @property
    def is_past_training(self) -> bool:
        """Whether a worker has come to what follows its `fit`.

        Nobody would save a backup there, and all would begin from nothing.
        """
        return self.boards.are_past_training

    def begin_anew(self) -> None:
        """Ends the workers so that another group begins."""
        self._grows = True
        self.end(signal.SIGTERM)

    def fallen(self, failure: WorkerFailure) -> list[int]:
        """Returns who has failed, and who else was killed meanwhile.

        Args:
            failure: What has ended the group.
        """
        return [
            outcome.worker
            for outcome in self.outcomes
            if outcome.worker == failure.worker
            or (outcome.returncode == -signal.SIGKILL and not outcome.was_ended)
        ]
