"""Where the time of a step goes, on every replica."""

import dataclasses
import math
import statistics
from collections.abc import Sequence

import numpy as np

from tfdp.throughput.step_times import StepTimes

PARTS = (
    *("start", "input", "compute"),
    *("waiting", "communication", "other"),
)
BETWEEN = ("between", "voting", "held")


@dataclasses.dataclass(frozen=True)
class Breakdown:
    """Seconds of steps, split into parts, by replica in order of workers.

    All replicas end a reduction together, since each needs what the others
    bring. The one that comes last waits for none: what passes from its last
    gradient to the reduced one is communication, and what others spend more
    is waiting for the slowest. Workers also wait for each other for data, as
    long as one of them came later to the step.

    Attributes:
        start: Starting the step: from its begin until data is asked for.
        input: Waiting for data: until it is there.
        compute: From data to gradients.
        waiting: Waiting for the slowest replica.
        communication: Reducing gradients, once all are there.
        other: The rest: the update, metrics, and ending the step.
        between: Between steps, for callbacks; by worker.
        voting: Between steps, for votes on stops and backups; by worker.
        held: In these votes, waiting for the slowest worker; by worker.
        replicas_by_worker: How many replicas each worker has.
        room: Waiting until an asynchronous worker may read or update; empty
            where workers are synchronous.

    Example:

    >>> breakdown = Breakdown(
    ...     start=(0.0, 0.0),
    ...     input=(0.0, 0.0),
    ...     compute=(1.0, 3.0),
    ...     waiting=(2.0, 0.0),
    ...     communication=(0.5, 0.5),
    ...     other=(0.5, 0.5),
    ...     between=(0.0, 0.0),
    ...     voting=(0.0, 0.0),
    ...     held=(0.0, 0.0),
    ...     replicas_by_worker=(1, 1),
    ... )
    >>> breakdown.share("communication"), breakdown.skew, breakdown.slowest
    (0.125, 3.0, 1)
    """

    start: tuple[float, ...]
    input: tuple[float, ...]
    compute: tuple[float, ...]
    waiting: tuple[float, ...]
    communication: tuple[float, ...]
    other: tuple[float, ...]
    between: tuple[float, ...]
    voting: tuple[float, ...]
    held: tuple[float, ...]
    replicas_by_worker: tuple[int, ...]
    room: tuple[float, ...] = ()

    @classmethod
    def of(
        cls, workers: Sequence[StepTimes], *, asks: bool = True
    ) -> "Breakdown":
        """Splits what all workers have measured over the same updates.

        Args:
            workers: Times by worker, of as many entries each.
            asks: Whether they ask each other for data before each step, where
                they then wait for who comes late. Defaults to `True`.
        """
        replicas = [len(each.compute) for each in workers]
        gaps = np.array([each.between for each in workers])
        starts = np.array([each.start for each in workers])
        came = gaps + starts
        late = np.repeat(came.max(axis=0) - came, replicas, axis=0)
        votes = np.array([each.voting for each in workers])
        voting = np.broadcast_to(votes.min(axis=0), votes.shape)
        compute, data, synchronization = (
            np.concatenate([getattr(each, name) for each in workers])
            for name in ("compute", "input", "synchronization")
        )
        seconds = np.repeat(
            [each.seconds for each in workers], replicas, axis=0
        )
        start = np.repeat(starts, replicas, axis=0)
        for_late = np.minimum(data, late) if asks else np.zeros_like(data)
        communication = np.broadcast_to(
            synchronization.min(axis=0), compute.shape
        )
        waiting = for_late + synchronization - communication
        known = start + data + compute + synchronization
        other = np.maximum(seconds - known, 0)
        exchanging, room = (
            np.repeat([getattr(each, n) for each in workers], replicas, axis=0)
            for n in ("exchanging", "room")
        )
        # It comes after the gradients; where several steps are executed
        # together, that is the next one's computation.
        sent, *rest = _taken(exchanging - room, other, compute, data)
        room, other, compute, data = _taken(room, *rest)
        communication = communication + sent
        parts = {
            "start": start,
            "input": data - for_late,
            "compute": compute,
            "waiting": waiting,
            "communication": communication,
            "other": other,
            "between": gaps - votes,
            "voting": voting,
            "held": votes - voting,
        }
        if exchanging.any():
            parts["room"] = room
        sums = {
            name: tuple(part.sum(axis=1).tolist())
            for name, part in parts.items()
        }
        return cls(**sums, replicas_by_worker=tuple(replicas))

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the parts of a step, in its order."""
        return (*PARTS[:-1], "room", PARTS[-1]) if self.room else PARTS

    def share(self, part: str) -> float:
        """Returns a part over all of the steps, the mean of the replicas.

        Args:
            part: Name of one of the parts inside of a step.
        """
        total = sum(sum(getattr(self, each)) for each in self.parts)
        return sum(getattr(self, part)) / total if total else math.nan

    @property
    def own(self) -> tuple[float, ...]:
        """Seconds that each replica kept the others waiting, or could have.

        Its start, its data, its computation, and what its worker did between
        steps.
        """
        inside = np.add(self.start, self.input) + self.compute
        between = np.repeat(self.between, self.replicas_by_worker)
        return tuple((inside + between).tolist())

    @property
    def slowest(self) -> int:
        """The replica with most seconds of its own."""
        return int(np.argmax(self.own))

    @property
    def skew(self) -> float:
        """Own seconds of the slowest replica over the median replica's."""
        return _over_median(self.own)

    @property
    def worker_skew(self) -> float:
        """Own seconds of the slowest worker over the median worker's.

        A worker's own seconds are those of its slowest replica.
        """
        edges = np.cumsum((0, *self.replicas_by_worker[:-1]))
        return _over_median(np.maximum.reduceat(self.own, edges).tolist())

    def worker_of(self, replica: int) -> int:
        """Returns the worker that a replica belongs to."""
        ends = np.cumsum(self.replicas_by_worker)
        return int(np.searchsorted(ends, replica, side="right"))

    def __add__(self, other: "Breakdown") -> "Breakdown":
        """Returns the breakdown over two stretches of the same training."""
        sums = {
            name: tuple(
                a + b
                for a, b in zip(
                    getattr(self, name), getattr(other, name), strict=True
                )
            )
            for name in (*PARTS, *BETWEEN)
        }
        room = tuple(
            a + b
            for a, b in zip(
                self.room or (0.0,) * len(other.room),
                other.room or (0.0,) * len(self.room),
                strict=True,
            )
        )
        return Breakdown(
            **sums, replicas_by_worker=self.replicas_by_worker, room=room
        )


def _taken(seconds: np.ndarray, *parts: np.ndarray) -> tuple[np.ndarray, ...]:
    """Takes seconds out of parts, one after the other, as far as they go.

    Returns:
        The seconds taken, and what is left of the parts.
    """
    left, rest = np.maximum(seconds, 0), []
    for part in parts:
        from_part = np.minimum(left, part)
        left = left - from_part
        rest.append(part - from_part)
    return np.maximum(seconds, 0) - left, *rest


def _over_median(seconds: Sequence[float]) -> float:
    # Of two, the faster is the measure of the slower.
    median = statistics.median_low(seconds)
    return max(seconds) / median if median else math.nan
