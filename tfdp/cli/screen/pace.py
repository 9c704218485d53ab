"""How fast a worker is, from where it was seen to stand."""

import collections
from typing import NamedTuple

from tfdp.board import Standing, State

_SECONDS = 30.0
_SECONDS_BETWEEN = 0.5
_OF_STEPS = (
    *(State.FIRST_STEP, State.TRAINING),
    *(State.CALLBACKS, State.WAITING),
)


class _Point(NamedTuple):
    time: float
    in_steps: float
    update: int
    samples: int


class Pace:
    """Remembers half a minute of standings, of one worker.

    Samples are those of a second in steps, without validation, saving and
    making graphs, which the time that is left has in it.

    Example:

    >>> pace = Pace()
    >>> for second in range(3):
    ...     pace.see(
    ...         Standing(
    ...             state=State.TRAINING,
    ...             since=-1.0,
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
            # A worker that was started again begins anew, too.
            self._points.clear()
            return
        now = standing.changed
        point = _Point(
            now,
            sum(standing.seconds_in(state, now) for state in _OF_STEPS),
            standing.update,
            standing.samples,
        )
        if not self._points:
            self._points.append(point)
            return
        last = self._points[-1]
        if point.update < last.update or point.samples < last.samples:
            # Another optimizer, or another fit, counts from zero.
            self._points.clear()
        elif point[2:] == last[2:] or now - last.time < _SECONDS_BETWEEN:
            return
        self._points.append(point)
        while now - self._points[0].time > _SECONDS:
            self._points.popleft()

    @property
    def samples_per_second(self) -> float | None:
        """Samples that the worker trains on; `None` where not known."""
        if len(self._points) < 2 or self._points[-1].samples < 0:
            return None
        first, last = self._points[0], self._points[-1]
        seconds = last.in_steps - first.in_steps
        return (last.samples - first.samples) / seconds if seconds else None

    @property
    def seconds_left(self) -> float | None:
        """Time to the end of the `fit`; `None` where not known."""
        if len(self._points) < 2 or self._goal < 0:
            return None
        first, last = self._points[0], self._points[-1]
        made = last.update - first.update
        seconds = last.time - first.time
        rest = max(self._goal - last.update, 0)
        return rest * seconds / made if made else None
