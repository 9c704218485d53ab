"""A number over the updates of a run."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Point(NamedTuple):
    """A number at an update; `None` where it is not a number.

    Attributes:
        update: Updates made.
        value: The number.
        weight: What it counts for in an average, such as a rate's seconds.
    """

    update: float
    value: float | None
    weight: float = 1.0


@dataclasses.dataclass(frozen=True)
class Curve:
    """A number over the updates of a run.

    Attributes:
        run: Name of the run.
        name: What it is, of this run.
        points: Its points, in the order of training.
        style: `"solid"`, `"dashed"` or `"dotted"`.

    Example:

    >>> points = [Point(1, 300.0, 1.0), Point(2, 100.0, 3.0)]
    >>> Curve("digits", "worker 0", points).thinned(1).points
    [Point(update=2, value=150.0, weight=4.0)]
    """

    run: str
    name: str
    points: Sequence[Point]
    style: str = "solid"

    @property
    def values(self) -> list[float]:
        """Its numbers, without what is none."""
        return [p.value for p in self.points if p.value is not None]

    def label(self, several: bool) -> str:
        """Returns its name, with the run's where there are several."""
        return f"{self.run}: {self.name}" if several else self.name

    def distance(self, other: "Curve") -> float:
        """Returns how far it is from another, on average where both are."""
        here = {p.update: p.value for p in self.points}
        apart = [
            abs(value - p.value)
            for p in other.points
            if (value := here.get(p.update)) is not None and p.value is not None
        ]
        return sum(apart) / len(apart) if apart else math.inf

    def thinned(self, most: int) -> "Curve":
        """Returns the curve with no more points than that.

        Neighbours become their weighted average, at the last one's update.
        """
        each = math.ceil(len(self.points) / most)
        if each <= 1:
            return self
        return dataclasses.replace(self, points=list(self._averages(each)))

    def _averages(self, each: int) -> Iterator[Point]:
        for start in range(0, len(self.points), each):
            points = self.points[start : start + each]
            known = [(p.value, p.weight) for p in points if p.value is not None]
            weight = sum(w for _, w in known)
            total = sum(value * w for value, w in known)
            average = total / weight if weight else None
            yield Point(points[-1].update, average, weight)
