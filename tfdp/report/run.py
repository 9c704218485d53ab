"""One training run: what its log says, and rates and times from it."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Sequence

from tfdp.report.goodput import Goodput, logged_goodput
from tfdp.report.log_lines import Line, fits, number

# Of the time of a replica, in the order of a step.
PARTS = (
    *("start", "input", "compute"),
    *("waiting", "communication", "room", "other"),
)


@dataclasses.dataclass(frozen=True)
class Window:
    """A stretch of updates, as all workers measured it.

    Attributes:
        update: Number of updates made at its end.
        workers: The line of each worker.
    """

    update: int
    workers: tuple[Line, ...]

    @property
    def seconds(self) -> float:
        """Time of the worker that took longest."""
        return max(line["seconds"] for line in self.workers)

    @property
    def samples(self) -> float:
        """Samples of all workers."""
        return sum(line["samples"] for line in self.workers)

    @property
    def updates(self) -> float:
        """Updates made in it; 0 where that is not known."""
        return max(number(line, "updates") or 0 for line in self.workers)


@dataclasses.dataclass(frozen=True)
class ReplicaTime:
    """Where the time of a replica went, in milliseconds per update.

    Attributes:
        worker: The replica's worker.
        replica: Its number.
        parts: Milliseconds by part, without those that are not known.
    """

    worker: int
    replica: int
    parts: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Run:
    """A training run, read from its folder; no TensorFlow, no clock.

    Attributes:
        name: What to call it.
        fits: The lines of each of its fits, first that of its begin. Several
            where it was resumed.
        goodput: How well its time was used; `None` where that is not known.
        complaints: A sentence for each line that tells of no start or end,
            though it should.
    """

    name: str
    fits: Sequence[Sequence[Line]]
    goodput: Goodput | None = None
    complaints: Sequence[str] = ()

    @classmethod
    def read(cls, folder: str | os.PathLike[str], name: str = "") -> "Run":
        """Reads a run.

        Args:
            folder: Folder of its log.
            name: What to call it. Defaults to the folder's name.

        Returns:
            The run.

        Raises:
            ValueError: If the folder has no log, or a malformed one.
        """
        name = name or pathlib.Path(folder).resolve().name
        return cls(name, fits(folder), *logged_goodput(folder))

    def lines(self, kind: str) -> list[Line]:
        """Returns the lines of a kind, such as "update" or "epoch"."""
        return [x for fit in self.fits for x in fit if x["kind"] == kind]

    @property
    def begin(self) -> Line:
        """What the run said of itself when it last began."""
        return self.fits[-1][0]

    @property
    def end(self) -> Line | None:
        """What it said at its end; `None` where it was killed or goes on."""
        ends = [line for line in self.fits[-1] if line["kind"] == "end"]
        return ends[-1] if ends else None

    @property
    def updates(self) -> int:
        """Number of updates made."""
        return int(max(line["update"] for line in self.fits[-1]))

    @property
    def duration(self) -> float:
        """Seconds from begin to end, without pauses and what was lost."""
        return sum(
            max(number(line, "time") or 0 for line in fit) - fit[0]["time"]
            for fit in self.fits
        )

    @property
    def unit(self) -> str:
        """What its samples are called."""
        return str(self.begin.get("unit") or "samples")

    @property
    def replicas(self) -> int | None:
        """Number of replicas of all workers, where it is known."""
        replicas = number(self.begin, "replicas")
        return int(replicas) if replicas else None

    @functools.cached_property
    def windows(self) -> list[Window]:
        """All windows, in the order of training."""
        found: dict[tuple[int, int], list[Line]] = {}
        for place, fit in enumerate(self.fits):
            for line in fit:
                if line["kind"] == "window" and _is_measured(line):
                    found.setdefault((place, line["update"]), []).append(line)
        return [
            Window(update, tuple(lines))
            for (_, update), lines in sorted(found.items())
        ]

    @property
    def samples_per_second(self) -> float | None:
        """Samples over the seconds of the longest worker, in all windows."""
        seconds = sum(window.seconds for window in self.windows)
        samples = sum(window.samples for window in self.windows)
        return samples / seconds if seconds else None

    @property
    def update_milliseconds(self) -> float | None:
        """Time of an update, on the mean of all windows."""
        known = [window for window in self.windows if window.updates]
        updates = sum(window.updates for window in known)
        seconds = sum(window.seconds for window in known)
        return 1000 * seconds / updates if updates else None

    @property
    def bounds(self) -> set[str]:
        """Parts of a replica's time that are only bounds of it."""
        return {
            str(part).removesuffix("_seconds")
            for window in self.windows
            for line in window.workers
            for part in line.get("bounds") or ()
        }

    @functools.cached_property
    def replica_times(self) -> list[ReplicaTime]:
        """Where each replica's time went, on the mean of all windows."""
        totals: dict[tuple[int, int], dict[str, list[float]]] = {}
        lines = [line for window in self.windows for line in window.workers]
        for line in lines:
            updates = number(line, "updates") or 0
            for replica, of in replicas(line):
                parts = totals.setdefault((worker(line), replica), {})
                for part in PARTS:
                    seconds = number(of, f"{part}_seconds")
                    if seconds is not None and updates:
                        total = parts.setdefault(part, [0.0, 0.0])
                        total[0] += 1000 * seconds
                        total[1] += updates
        return [
            ReplicaTime(
                *place, {k: time / count for k, (time, count) in parts.items()}
            )
            for place, parts in sorted(totals.items())
            if parts
        ]


def _is_measured(line: Line) -> bool:
    return None not in (number(line, "seconds"), number(line, "samples"))


def worker(line: Line) -> int:
    """Returns the number of the worker that a window's line is of."""
    return int(number(line, "worker") or 0)


def replicas(line: Line) -> list[tuple[int, Line]]:
    """Returns number and figures of the replicas of a window's line."""
    return [
        (int(number(of, "replica") or 0), of)
        for of in line.get("replicas") or ()
    ]
