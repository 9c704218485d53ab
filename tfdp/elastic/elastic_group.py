"""Workers that end to begin anew with more of them."""

import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

from tfdp.launch import WorkerGroup
from tfdp.launch.blame import Culprit

_SETTLE_SECONDS = 60.0


class ElasticGroup(WorkerGroup):
    """A group that is ended where more workers could train.

    They are told by SIGTERM, at which a program with `BackupAndRestore` saves
    a backup. Where one has failed, the others are killed at once: they wait
    for it in an update that will not be, and go on from their last backup.

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
        are_well = culprit is None and not self.blame.has_seen_failure
        all_run = all(code is None for code in codes.values())
        if (
            are_well
            and all_run
            and self._could_grow(now)
            and (now >= self._settled or self.boards.updates_made)
        ):
            self._grows = True
            self.end(signal.SIGTERM)
        return culprit
