"""How long workers may show no progress before something is wrong."""

import collections
import math
import statistics
from collections.abc import Collection, Iterable

from tfdp.board import Standing, State

LEAST_SECONDS = 60.0
TIMES_MEDIAN = 20
_UPDATES = 1000
# With the first one, and what comes after it, graphs are made.
_FIRST = 2
# What takes its time, and tells nothing meanwhile.
_LONG = frozenset(
    (
        State.STARTING,
        State.MEETING,
        State.PAUSE,
        State.FIRST_STEP,
        State.TRACING,
        State.VALIDATING,
        State.SAVING,
        State.ENDED,
    )
)


class Patience:
    """Says for how long nothing may change on any board.

    Between the steps of an epoch these are `seconds`. Before the second update,
    between epochs, and while some worker makes a graph, validates or saves, it
    is what workers have to meet, if that is longer. Nothing is said of workers
    of which none is in a `fit`.

    Args:
        seconds: Between steps; `None` for 20 times the median update, and at
            least 60. Callbacks then have as long as validation.
        start_seconds: What workers have to meet.

    Example:

    >>> patience = Patience(None, start_seconds=600.0)
    >>> at = Standing(state=State.TRAINING, epoch=0, update=3, made=3)
    >>> patience.limit([at])
    60.0
    """

    def __init__(self, seconds: float | None, *, start_seconds: float) -> None:
        """Knows no update yet."""
        self._seconds = seconds
        self._start_seconds = start_seconds
        self._durations: collections.deque[float] = collections.deque(
            maxlen=_UPDATES
        )
        self._last: Standing | None = None

    @property
    def median(self) -> float:
        """Seconds of an update; NaN where none was seen."""
        if not self._durations:
            return math.nan
        return statistics.median(self._durations)

    @property
    def seconds(self) -> float:
        """How long nothing may change between steps."""
        if self._seconds is not None:
            return self._seconds
        if not self._durations:
            return LEAST_SECONDS
        return max(TIMES_MEDIAN * self.median, LEAST_SECONDS)

    def learn(self, standing: Standing) -> None:
        """Learns how long updates take.

        Args:
            standing: Where a worker stands, always the same one.
        """
        last, self._last = self._last, standing
        if last is None or last.pid != standing.pid or not last.made:
            return
        updates = standing.update - last.update
        if updates > 0 and standing.updated > last.updated:
            seconds = (standing.updated - last.updated) / updates
            self._durations.extend([seconds] * min(updates, _UPDATES))

    def limit(self, standings: Iterable[Standing | None]) -> float:
        """Returns how long nothing may change where workers stand.

        Args:
            standings: Of all workers; `None` of one without a board.
        """
        known = [each or Standing() for each in standings]
        if not any(each.is_in_fit for each in known):
            return math.inf
        if self._may_be_long(known):
            return max(self.seconds, self._start_seconds)
        return self.seconds

    def reason(self, standings: Iterable[Standing | None]) -> str:
        """Returns why the limit is what it is, in words.

        Args:
            standings: As for `limit`.
        """
        is_long = self._may_be_long([each or Standing() for each in standings])
        if is_long and self._start_seconds > self.seconds:
            return (
                f"more than the {self._start_seconds:g} s that may pass "
                "outside of the steps of an epoch"
            )
        if self._seconds is not None:
            return f"more than the {self._seconds:g} s of --stall-seconds"
        if math.isnan(self.median):
            return f"more than {LEAST_SECONDS:g} s"
        return (
            f"more than {self.seconds:.3g} s, where an update takes "
            f"{self.median:.2g} s"
        )

    def _may_be_long(self, standings: Collection[Standing]) -> bool:
        states = {each.state for each in standings}
        return (
            bool(states & _LONG)
            or max(each.made for each in standings) < _FIRST
            or (self._seconds is None and State.CALLBACKS in states)
        )
