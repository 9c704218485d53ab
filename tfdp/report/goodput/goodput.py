"""How well a job has used its time."""

import dataclasses
import math
from collections.abc import Iterable, Mapping

from tfdp.report.goodput.attempt import Attempt
from tfdp.report.words import duration, percent

PARTS = {
    "updates": "updates that remain: steps, and what callbacks do after them",
    "tracing": "steps for which a graph is made",
    "validation": "validation",
    "backups": "pauses for backups",
    "waiting": "for workers: to start again, to meet, and to vote",
    "repeating": "updates that were lost and made again, and what a loss has "
    "cut off",
    "noticing": "from a loss to the end of all workers",
    "starting": "from a start to the first `fit`, without meeting",
    "other": "between epochs, after a `fit`, ending, and what is not known",
}


@dataclasses.dataclass(frozen=True)
class Goodput:
    """What share of the time was updates that remain, and where the rest went.

    The whole is the time from the first start to the last end, without
    `stopped`. It is that of the first worker, the chief, up to a loss, and of
    the launcher from then on:

    | Part         | Seconds                                                 |
    | ------------ | ------------------------------------------------------- |
    | `updates`    | in steps, and in callbacks after them, of updates that  |
    |              | remain: each update counts once, where it was made last |
    | `tracing`    | in steps for which a graph is made, to their end        |
    | `validation` | in validation                                           |
    | `backups`    | in which a backup is copied, without waiting for        |
    |              | workers                                                 |
    | `waiting`    | until lost workers are started again, for workers to    |
    |              | meet, and for votes outside of steps                    |
    | `repeating`  | of updates that were made again later, the mean of that |
    |              | start for each; of a step that a loss has cut off; of   |
    |              | passing over batches that were seen before              |
    | `noticing`   | from a worker's end, or its last sign of life, to the   |
    |              | end of all                                              |
    | `starting`   | from the start of workers to their `fit`, but for       |
    |              | meeting                                                 |
    | `other`      | all else: begin and end of epochs, restoring, what      |
    |              | comes after a `fit`, the end of processes               |

    Attributes:
        parts: Seconds by the name of the part, in the order of `PARTS`; none
            is negative.
        stopped: Seconds between launchers, in which nothing ran.
        starts: How often workers were started.
        losses: How often all have ended because one was lost.
        made: Updates made, each as often as it was.
        repeated: How many of them were made again later.

    Example:

    >>> spent = {"starting": 2.0, "training": 8.0}
    >>> print(Goodput.of([Attempt(0.0, 10.0, spent=spent, update=9, made=9)]))
    80 % of 10.0 s; 20 % starting. 1 start, 9 updates.
    """

    parts: Mapping[str, float]
    stopped: float
    starts: int
    losses: int
    made: int
    repeated: int

    @classmethod
    def of(cls, attempts: Iterable[Attempt]) -> "Goodput":
        """Returns the goodput of a job.

        Args:
            attempts: All starts of its workers, in their order. What overlaps
                counts as what it is of both.
        """
        attempts = list(attempts)
        parts = dict.fromkeys(PARTS, 0.0)
        stopped = 0.0
        repeated = 0
        before: Attempt | None = None
        for attempt, least in zip(
            attempts, _least_begun(attempts), strict=True
        ):
            since, unlaunched = _gap(before, attempt)
            stopped += unlaunched
            # The first start of a launcher is not one that is waited for.
            part = "starting" if before is None or unlaunched else "waiting"
            parts[part] += since
            remain = min(max(attempt.begun, least), attempt.update)
            lost = min(max(attempt.update - int(remain), 0), attempt.made)
            repeated += lost
            for part, seconds in attempt.parts(lost).items():
                parts[part] += seconds
            before = attempt
        return cls(
            parts,
            stopped,
            len(attempts),
            sum(each.lost is not None for each in attempts),
            sum(each.made for each in attempts),
            repeated,
        )

    @property
    def seconds(self) -> float:
        """The whole."""
        return sum(self.parts.values())

    @property
    def share(self) -> float | None:
        """The share of updates that remain; `None` where no time passed."""
        return self.parts["updates"] / self.seconds if self.seconds else None

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Returns each part: its time, its share, what it is; and the sum."""
        whole = self.seconds or 1.0
        parts = [
            (part, duration(seconds), percent(seconds / whole), PARTS[part])
            for part, seconds in self.parts.items()
        ]
        return [*parts, ("sum", duration(self.seconds), "", "")]

    def __str__(self) -> str:
        """Says the share, and where the rest went, most first."""
        rest = sorted(
            (item for item in self.parts.items() if item[0] != "updates"),
            key=lambda item: -item[1],
        )
        shares = ", ".join(
            f"{percent(seconds / self.seconds)} {part}"
            for part, seconds in rest
            if self.seconds and seconds >= 0.005 * self.seconds
        )
        counts = [_count(self.starts, "start")]
        if self.losses:
            counts.append(
                f"{self.losses} {'losses' if self.losses > 1 else 'loss'}"
            )
        counts.append(_count(self.made, "update"))
        if self.repeated:
            counts[-1] += f", {self.repeated:,} of them made again"
        if self.stopped:
            counts.append(f"not running for {duration(self.stopped)} between")
        return (
            f"{percent(self.share)} of {duration(self.seconds)}"
            f"{shares and '; '}{shares}. {', '.join(counts)}."
        )


def _least_begun(attempts: list[Attempt]) -> list[float]:
    """For each, the fewest updates that any later one has begun from."""
    begun = [each.begun if each.has_trained else math.inf for each in attempts]
    return [
        min(begun[place:], default=math.inf)
        for place in range(1, len(begun) + 1)
    ]


def _gap(before: Attempt | None, attempt: Attempt) -> tuple[float, float]:
    """Seconds before an attempt, in which its launcher ran, and did not."""
    launched = attempt.launched
    if launched is None:
        launched = attempt.started
    launched = min(launched, attempt.started)
    if before is None:
        return attempt.started - launched, 0.0
    gap = max(attempt.started - before.ended, 0.0)
    unlaunched = min(max(launched - before.ended, 0.0), gap)
    return gap - unlaunched, unlaunched


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"
