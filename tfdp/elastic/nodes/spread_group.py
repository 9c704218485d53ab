"""Workers of several machines as one group, where one launcher leads."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tfdp.elastic import ElasticGroup
from tfdp.elastic.nodes.orders import Order, Report
from tfdp.elastic.nodes.peer import Peer
from tfdp.launching import WorkerFailure
from tfdp.launching.blame import Culprit
from tfdp.launching.worker_failure import WorkerOutcome

# For what others tell of a failure that has reached workers here, too.
_SETTLE_SECONDS = 1.5
# Beyond the time that workers have to end.
_END_SECONDS = 10.0
_POLL_SECONDS = 0.02


@dataclasses.dataclass(frozen=True)
class NodeFailure(WorkerFailure):
    """The loss of a machine, with all of its workers.

    Attributes:
        node: Which machine, in words.
        workers: Indices of its workers.
    """

    node: str = ""
    workers: tuple[int, ...] = ()

    def __str__(self) -> str:
        """Says which machine is lost."""
        return f"{self.node} {self.remark}. {self.fate}"


class SpreadGroup(ElasticGroup):
    """The workers of an attempt: those of this machine, and of others.

    Args:
        *args: As for `ElasticGroup`, of this machine; there may be none here.
        members: Launchers that have workers in this attempt, with the indices
            of these.
        names: What each of them is called, by its rank.
        attempt: Number of the attempt, from 1.
        slots: Places of all workers of the attempt, in order.
        restart_count: As for `ElasticGroup`.
        **kwargs: As for `ElasticGroup`.

    Attributes:
        order: What the others are told.

    Raises:
        Exception: As for `ElasticGroup`.
    """

    least_workers = 0

    def __init__(
        self,
        *args: Any,
        members: Sequence[tuple[Peer, range]],
        names: Mapping[int, str],
        attempt: int,
        slots: Sequence[int],
        restart_count: int = 0,
        **kwargs: Any,
    ) -> None:
        """Starts all workers."""
        self._members = members
        self._names = names
        self._seen_at: float | None = None
        self._found: WorkerFailure | None = None
        self.order = Order(attempt, restart_count, tuple(slots))
        self._tell()
        super().__init__(*args, restart_count=restart_count, **kwargs)

    @property
    def outcomes(self) -> list[WorkerOutcome]:
        """What has become of each worker so far, here and elsewhere."""
        told = [o for peer, _ in self._members for o in self._of(peer).outcomes]
        return sorted([*super().outcomes, *told], key=lambda o: o.worker)

    @property
    def updates_made(self) -> int:
        """How many updates the workers have made, by the most of them."""
        told = [self._of(peer).updates for peer, _ in self._members]
        return max([super().updates_made, *told])

    @property
    def is_past_training(self) -> bool:
        """Whether a worker has come to what follows its `fit`, anywhere."""
        told = any(self._of(peer).is_past for peer, _ in self._members)
        return told or super().is_past_training

    def end(self, number: int) -> None:
        """Asks all workers to end, here and elsewhere.

        Args:
            number: The signal to send.
        """
        is_second = self.is_ending
        super().end(number)
        signal = self.order.signal or number
        self._tell(signal=signal, kills=self.order.kills or is_second)

    def judge(
        self, now: float, codes: Mapping[int, int | None]
    ) -> Culprit | None:
        """Returns whose failure has ended this attempt, if it has."""
        reports = {peer.rank: self._of(peer) for peer, _ in self._members}
        for peer, indices in self._members:
            if peer.gone:
                return self._blamed(self._lost(peer, indices))
        failures = [r.failure for r in reports.values() if r.failure]
        culprit = super().judge(now, codes)
        leaves = any(r.leaves for r in reports.values())
        if leaves and not (self.is_ending or self.is_past_training):
            self.begin_anew()
        if self.is_ending or not (culprit or failures):
            return culprit
        if self._seen_at is None:
            self._seen_at = now
        # A worker that was killed is the cause of what others have met with.
        if culprit and culprit.returncode < 0:
            return culprit
        for failure in failures:
            if failure.signal_name:
                return self._blamed(failure)
        if now - self._seen_at < _SETTLE_SECONDS and self._running():
            return None
        return culprit or self._blamed(failures[0])

    def is_well(self, codes: Mapping[int, int | None]) -> bool:
        """Whether all workers run, here and elsewhere, and none has failed.

        Args:
            codes: Exit code of each worker here; `None` while it runs.
        """
        all_run = all(self._is_running(peer) for peer, _ in self._members)
        return all_run and super().is_well(codes)

    def unfinished(self, codes: Mapping[int, int | None]) -> list[int]:
        """Returns the workers to wait for, here and elsewhere."""
        return [*super().unfinished(codes), *self._running()]

    def failure(
        self, culprit: Culprit, fate: str, remark: str = ""
    ) -> WorkerFailure:
        """Returns what has become of a worker, wherever it was."""
        return self._found or super().failure(culprit, fate, remark)

    def fallen(self, failure: WorkerFailure) -> list[int]:
        """Returns who has fallen, by itself or with its machine."""
        if isinstance(failure, NodeFailure):
            return list(failure.workers)
        return super().fallen(failure)

    def stop(self) -> None:
        """Ends what is left of the group, here and elsewhere."""
        self._tell(kills=True)
        super().stop()
        deadline = time.monotonic() + _END_SECONDS
        while self._running() and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        for peer, _ in self._members:
            if self._is_running(peer):
                peer.leave()

    def _tell(self, **changes: Any) -> None:
        self.order = dataclasses.replace(self.order, **changes)
        for peer, _ in self._members:
            peer.tell(**self.order.as_fields())

    def _of(self, peer: Peer) -> Report:
        report = Report.of(peer.heard)
        if report.attempt == self.order.attempt:
            return report
        return Report(self.order.attempt, runs=True, leaves=report.leaves)

    def _is_running(self, peer: Peer) -> bool:
        return not peer.gone and self._of(peer).runs

    def _running(self) -> list[int]:
        return [
            index
            for peer, indices in self._members
            if self._is_running(peer)
            for index in indices
        ]

    def _lost(self, peer: Peer, indices: range) -> NodeFailure:
        return NodeFailure(
            indices[0],
            1,
            None,
            (),
            remark=peer.gone,
            fate=self.fate,
            node=self._names[peer.rank],
            workers=tuple(indices),
        )

    def _blamed(self, failure: WorkerFailure) -> Culprit:
        self._found = failure
        return Culprit(failure.worker, 128 - failure.exit_code)
