"""What asynchronous workers did, summed up over a run."""

import collections
import dataclasses
import functools
import re
from collections.abc import Sequence

from tfdp.report.log_lines import Line, number
from tfdp.report.run import Run

_IS_COUNT = re.compile("[0-9]{1,9}").fullmatch


@dataclasses.dataclass(frozen=True)
class WorkerPart:
    """What one asynchronous worker did in a run.

    Attributes:
        name: What to call it.
        lines: What the run says of it, epoch by epoch.
    """

    name: str
    lines: Sequence[Line]

    @functools.cached_property
    def staleness(self) -> dict[int, int]:
        """How many of its updates were how stale."""
        counts = collections.Counter[int]()
        for line in self.lines:
            histogram = line.get("staleness") or {}
            for stale in histogram:
                count = number(histogram, stale) or 0
                if _IS_COUNT(stale) and count > 0:
                    counts[int(stale)] += int(count)
        return dict(sorted(counts.items()))

    @property
    def updates(self) -> int:
        """Its updates."""
        return sum(self.staleness.values())

    @property
    def mean_staleness(self) -> float | None:
        """Their mean staleness, where there are any."""
        total = sum(stale * count for stale, count in self.staleness.items())
        return total / self.updates if self.updates else None

    @property
    def computing_milliseconds(self) -> float | None:
        """What a gradient took it."""
        return self._per_update("computing_seconds")

    @property
    def room_milliseconds(self) -> float | None:
        """How long it waited for room, for each update."""
        return self._per_update("room_seconds")

    @property
    def waiting_share(self) -> float | None:
        """Part of its time in which it waited for room."""
        waiting, computing = map(
            self._total, ("room_seconds", "computing_seconds")
        )
        whole = waiting + computing
        return waiting / whole if whole else None

    def _per_update(self, key: str) -> float | None:
        return 1000 * self._total(key) / self.updates if self.updates else None

    def _total(self, key: str) -> float:
        return sum(number(line, key) or 0.0 for line in self.lines)


def worker_parts(runs: Sequence[Run]) -> list[WorkerPart]:
    """Returns the asynchronous workers of some runs that have updated."""
    found = []
    for run in runs:
        by_worker: dict[int, list[Line]] = {}
        for line in run.lines("staleness"):
            worker = int(number(line, "worker") or 0)
            by_worker.setdefault(worker, []).append(line)
        for worker, lines in sorted(by_worker.items()):
            name = f"worker {worker}"
            if len(runs) > 1:
                name = f"{run.name}: {name}"
            found.append(WorkerPart(name, lines))
    return [part for part in found if part.updates]
