"""How fast a worker is, from where it was seen to stand."""

import collections
from typing import NamedTuple

from tfdp.board import Standing

_SECONDS = 30.0
_SECONDS_BETWEEN = 0.5


class _Point(NamedTuple):
    time: float
    update: int
    samples: int


class Pace:
    """Remembers half a minute of standings, of one worker.

    What it did before its first update, such as tracing, is in no rate;
    validation and saving are.

    Example:

    >>> pace = Pace()
    >>> for second in range(3):
    ...     pace.see(
    ...         Standing(
    ...             made=second,
    ...             update=5 + second,
    ...             samples=32 * second,
    ...             goal=17,
    ...             changed=float(second),
    ...         )
    ...     )
    >>> pace.samples_per_second, pace.seconds_left
    (32.0, 10.0)
    """

    def __init__(self) -> None:
        """Has seen nothing yet."""
        self._points: collections.deque[_Point] = collections.deque()
        self._goal = -1

    def see(self, standing: Standing) -> None:
        """Takes note of where the worker stands.

        Args:
            standing: Its newest.
        """
        self._goal = standing.goal
        if not standing.made:
            return
        point = _Point(standing.changed, standing.update, standing.samples)
        if not self._points:
            self._points.append(point)
            return
        last = self._points[-1]
        if point.update < last.update or point.samples < last.samples:
            # Another optimizer, or another fit, counts from zero.
            self._points.clear()
        elif point[1:] == last[1:] or (
            point.time - last.time < _SECONDS_BETWEEN
        ):
            return
        self._points.append(point)
        while point.time - self._points[0].time > _SECONDS:
            self._points.popleft()

    @property
    def samples_per_second(self) -> float | None:
        """Samples that the worker trains on; `None` where not known."""
        if self._points and self._points[-1].samples < 0:
            return None
        return self._rate("samples")

    @property
    def seconds_left(self) -> float | None:
        """Time to the end of the `fit`; `None` where not known."""
        rate = self._rate("update")
        if not rate or self._goal < 0:
            return None
        return max(self._goal - self._points[-1].update, 0) / rate

    def _rate(self, name: str) -> float | None:
        if len(self._points) < 2:
            return None
        first, last = self._points[0], self._points[-1]
        made = getattr(last, name) - getattr(first, name)
        return made / (last.time - first.time)
