"""How long a training that has begun anew takes to its next update."""

import dataclasses

from tfdp.board.standing import Standing, State

# In the order in which a worker comes to its first update.
_NAMES = {
    State.STARTING: "starting",
    State.MEETING: "meeting",
    State.PAUSE: "preparing",
    State.REPLAYING: "passing over data",
    State.WAITING: "waiting",
    State.SAVING: "saving",
    State.TRACING: "tracing",
    State.FIRST_STEP: "in the first step",
    State.TRAINING: "training",
    State.CALLBACKS: "callbacks",
    State.VALIDATING: "validating",
    State.ENDED: "after a `fit`",
}


@dataclasses.dataclass(frozen=True)
class Comeback:
    """Says where the time from a failure to the next update has gone.

    Times are of `time.monotonic`, in seconds.

    Attributes:
        lost: When the worker that has failed last gave a sign; where all were
            told to begin anew, when the last update ended.
        noticed: When that was seen.
        ended: When all workers had ended.

    Example:

    >>> standing = Standing(
    ...     update=7,
    ...     state=State.TRACING,
    ...     since=5.0,
    ...     changed=5.5,
    ...     spent=(0.25, 0.75, *[0.0] * 14),
    ... )
    >>> Comeback(lost=3.0, noticed=3.5, ended=4.0).words(standing)
    ... # doctest: +NORMALIZE_WHITESPACE
    'update 7 after 2.50 s: 0.50 noticing, 0.50 ending, 0.25 starting,
    0.75 meeting, 0.50 tracing'
    """

    lost: float
    noticed: float
    ended: float

    def parts(self, standing: Standing) -> dict[str, float]:
        """Returns the seconds of each part, which add up to all of the time.

        Args:
            standing: Of a worker that has just made an update.
        """
        begin = standing.since - sum(standing.spent)
        return {
            "noticing": self.noticed - self.lost,
            "ending": self.ended - self.noticed,
            "pausing": begin - self.ended,
            **{
                name: standing.seconds_in(state, standing.changed)
                for state, name in _NAMES.items()
            },
        }

    def words(self, standing: Standing) -> str:
        """Returns a line of what has taken a hundredth of a second, and more.

        Args:
            standing: Of a worker that has just made an update.
        """
        parts = {
            name: f"{seconds:.2f}"
            for name, seconds in self.parts(standing).items()
        }
        told = [f"{x} {name}" for name, x in parts.items() if x != "0.00"]
        whole = standing.changed - self.lost
        return (
            f"update {standing.update} after {whole:.2f} s: {', '.join(told)}"
        )
