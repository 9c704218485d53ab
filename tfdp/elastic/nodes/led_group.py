"""Workers of a machine whose launcher is led by another one."""

import signal
import time
from typing import Any

from tfdp.elastic.nodes.orders import Order, Report
from tfdp.elastic.nodes.peer import Peer
from tfdp.launching import WorkerFailure, WorkerGroup

_TELL_SECONDS = 0.5


class LedGroup(WorkerGroup):
    """Does what who leads says, and tells it how the workers are.

    Where there is no line to it any more the workers are killed: those of other
    machines, too, begin anew without them.

    Args:
        *args: As for `WorkerGroup`.
        leader: Who leads.
        attempt: Number of the attempt, as it calls it.
        **kwargs: As for `WorkerGroup`.

    Attributes:
        leaves: Whether this launcher was told to end. Set it.

    Raises:
        Exception: As for `WorkerGroup`.
    """

    failure_grace_seconds = 0.0

    def __init__(
        self, *args: Any, leader: Peer, attempt: int, **kwargs: Any
    ) -> None:
        """Starts the workers."""
        self.leaves = False
        self._leader = leader
        self._attempt = attempt
        self._told_at = 0.0
        self._is_killed = False
        super().__init__(*args, **kwargs)

    def poll(self) -> dict[int, int | None]:
        """Returns the exit code of each worker here; `None` while it runs."""
        order = Order.of(self._leader.heard)
        is_of_another = order.attempt != self._attempt
        if self._leader.gone or is_of_another or order.kills:
            self._kill()
        elif order.signal and not self.is_ending:
            self.end(order.signal)
        now = time.monotonic()
        if now - self._told_at > _TELL_SECONDS:
            self._told_at = now
            self._tell(runs=True)
        return super().poll()

    def wait(self, timeout: float | None = None) -> WorkerFailure | None:
        """Waits until every worker has ended, and tells how."""
        failure = super().wait(timeout)
        outcomes = tuple(self.outcomes)
        self._tell(runs=False, failure=failure, outcomes=outcomes)
        return failure

    def _kill(self) -> None:
        if not self._is_killed:
            self._is_killed = True
            # The second time it is at once.
            self.end(signal.SIGKILL)
            self.end(signal.SIGKILL)

    def _tell(self, **report: Any) -> None:
        told = Report(
            attempt=self._attempt,
            updates=self.boards.updates_made,
            is_past=self.boards.are_past_training,
            leaves=self.leaves,
            **report,
        )
        self._leader.tell(**told.as_fields())
