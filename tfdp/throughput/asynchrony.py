"""What asynchronous workers did, by what their server has counted."""

import collections
import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Share:
    """One worker's part in a stretch of training.

    Attributes:
        staleness: How many of its updates were how stale.
        computing: Seconds that its gradients took, from reading weights to
            the update, without waiting for room.
        waiting: Seconds that it waited for room: until it might read, so that
            no gradient would be too stale, or update.
        skipped: Updates of its that were skipped.
        lost: Why it was lost; empty while it lives.
    """

    staleness: Mapping[int, int]
    computing: float
    waiting: float
    skipped: int = 0
    lost: str = ""

    @property
    def updates(self) -> int:
        """Updates that it made."""
        return sum(self.staleness.values())

    @property
    def mean_staleness(self) -> float:
        """Mean staleness of its updates; NaN without any."""
        total = sum(stale * count for stale, count in self.staleness.items())
        return total / self.updates if self.updates else math.nan

    @property
    def max_staleness(self) -> float:
        """Largest staleness of its updates; NaN without any."""
        return max(self.staleness, default=math.nan)

    @property
    def waiting_share(self) -> float:
        """Part of its time in which it waits for room; NaN without time."""
        return _over(self.waiting, self.waiting + self.computing)

    @property
    def gradient_seconds(self) -> float:
        """What a gradient takes it; NaN without updates."""
        return _over(self.computing, self.updates)

    def since(self, earlier: "Share") -> "Share":
        """Returns what was added since an earlier time."""
        staleness = collections.Counter(self.staleness)
        staleness.subtract(earlier.staleness)
        return Share(
            {stale: n for stale, n in staleness.items() if n > 0},
            computing=self.computing - earlier.computing,
            waiting=self.waiting - earlier.waiting,
            skipped=self.skipped - earlier.skipped,
            lost=self.lost,
        )


_NOTHING = Share({}, 0.0, 0.0)


@dataclasses.dataclass(frozen=True)
class Asynchrony:
    """What all workers did in a stretch of training.

    Attributes:
        bound: The largest staleness that is allowed, `max_staleness`.
        workers: The part of each, by its index.

    Example:

    >>> asynchrony = Asynchrony(
    ...     bound=1,
    ...     workers={
    ...         0: Share({0: 20, 1: 10}, computing=3.0, waiting=5.0),
    ...         1: Share({1: 8}, computing=8.0, waiting=0.0),
    ...     },
    ... )
    >>> asynchrony.updates, asynchrony.slowest, asynchrony.slowness
    (38, 1, 10.0)
    """

    bound: int
    workers: Mapping[int, Share]

    @classmethod
    def of(cls, statistics: Mapping[str, Any]) -> "Asynchrony":
        """Reads what the server tells.

        Args:
            statistics: Of `tfdp.asynchronous.exchange.Exchange`, which says
                what is in them. They count since the server began.
        """
        skipped, lost = statistics["skipped"], statistics["lost"]
        return cls(
            statistics["max_staleness"],
            {
                int(worker): Share(
                    {int(stale): n for stale, n in histogram.items()},
                    computing=statistics["computed"][worker],
                    waiting=sum(statistics["waited"][worker].values()),
                    skipped=skipped.get(worker, 0),
                    lost=lost.get(worker, ""),
                )
                for worker, histogram in statistics["staleness"].items()
            },
        )

    def since(self, earlier: "Asynchrony") -> "Asynchrony":
        """Returns what was added since an earlier time."""
        return Asynchrony(
            self.bound,
            {
                worker: share.since(earlier.workers.get(worker, _NOTHING))
                for worker, share in self.workers.items()
            },
        )

    @property
    def updates(self) -> int:
        """Updates of all workers."""
        return sum(share.updates for share in self.workers.values())

    @property
    def waiting_share(self) -> float:
        """Part of all workers' time in which they wait; NaN without time."""
        waiting = sum(share.waiting for share in self.workers.values())
        computing = sum(share.computing for share in self.workers.values())
        return _over(waiting, waiting + computing)

    @functools.cached_property
    def gradient_seconds(self) -> dict[int, float]:
        """What a gradient takes each worker that lives and has updated."""
        return {
            worker: share.gradient_seconds
            for worker, share in self.workers.items()
            if share.updates and share.computing > 0 and not share.lost
        }

    @property
    def slowest(self) -> int | None:
        """The worker whose gradients take longest; `None` without updates."""
        seconds = self.gradient_seconds
        return max(seconds, key=seconds.__getitem__) if seconds else None

    @property
    def slowness(self) -> float:
        """What a gradient takes the slowest worker, over the median worker."""
        ordered = sorted(self.gradient_seconds.values())
        # Of two, the faster is the measure of the slower.
        return ordered[-1] / ordered[(len(ordered) - 1) // 2] if ordered else 1

    def as_logs(self, worker: int) -> dict[str, float]:
        """Returns figures of one worker by the names of Keras's logs.

        Args:
            worker: Its index.
        """
        share = self.workers.get(worker, _NOTHING)
        return {
            "staleness_mean": share.mean_staleness,
            "staleness_max": share.max_staleness,
            "updates_of_all_workers": self.updates,
        }

    def scalars(self) -> dict[str, float]:
        """Returns the figures of each worker by tags for TensorBoard."""
        return {
            f"asynchrony/worker/{worker}/{name}": value
            for worker, share in sorted(self.workers.items())
            for name, value in (
                ("updates", share.updates),
                ("staleness_mean", share.mean_staleness),
                ("staleness_max", share.max_staleness),
                ("room_wait_fraction", share.waiting_share),
            )
        }

    def rows(self) -> list[dict[str, Any]]:
        """Returns one row per worker, as a run's log has them."""
        return [
            {
                "worker": worker,
                "max_staleness": self.bound,
                "updates": share.updates,
                "skipped": share.skipped,
                "staleness": {
                    str(k): n for k, n in sorted(share.staleness.items())
                },
                "computing_seconds": share.computing,
                "room_seconds": share.waiting,
                "lost": share.lost or None,
            }
            for worker, share in sorted(self.workers.items())
        ]


def _over(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
