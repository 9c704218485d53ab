"""One worker, as the cells of a line."""

import dataclasses

from tfdp.board import Standing, State
from tfdp.cli.screen.pace import Pace

UNKNOWN = "-"
WORDS = {
    State.STARTING: "starting",
    State.MEETING: "meeting",
    State.PAUSE: "preparing",
    State.TRACING: "tracing",
    State.TRAINING: "training",
    State.CALLBACKS: "training",
    State.WAITING: "waiting",
    State.VALIDATING: "validating",
    State.SAVING: "saving",
    State.ENDED: "ended",
    State.FIRST_STEP: "training",
    State.REPLAYING: "resuming",
}
_OUTSIDE_OF_FIT = (State.STARTING, State.MEETING, State.ENDED)
_LONG_SECONDS = 2.0


@dataclasses.dataclass(frozen=True)
class WorkerRow:
    """What is shown of a worker, each as text; `-` for what is not known.

    Attributes:
        worker: Its index.
        state: What it is doing.
        epoch: The epoch it is in, from 1.
        update: Updates made, and of how many.
        rate: Samples per second that it trains on.
        waiting: Share of the time of its `fit` in which it waits for others,
            outside of steps.
        memory: Memory of its process.
        left: Time to the end of the `fit`.
        line: What it has printed last; what it waits for, where that is long.
    """

    worker: str
    state: str
    epoch: str = UNKNOWN
    update: str = UNKNOWN
    rate: str = UNKNOWN
    waiting: str = UNKNOWN
    memory: str = UNKNOWN
    left: str = UNKNOWN
    line: str = ""

    @classmethod
    def of(
        cls,
        worker: int,
        standing: Standing | None,
        pace: Pace,
        *,
        now: float,
        memory: int | None,
        line: str,
    ) -> "WorkerRow":
        """Returns the row of a worker.

        Args:
            worker: Its index.
            standing: Where it stands; `None` where it has no board.
            pace: How fast it is.
            now: Seconds, of `time.monotonic`.
            memory: Bytes of its process; `None` where that has ended.
            line: What it has printed last.

        Example:

        >>> row = WorkerRow.of(
        ...     3,
        ...     Standing(state=State.TRACING, epoch=0, update=0, goal=90),
        ...     Pace(),
        ...     now=1.0,
        ...     memory=2**29,
        ...     line="",
        ... )
        >>> row.state, row.epoch, row.update, row.memory
        ('tracing', '1', '0/90', '512 MiB')
        """
        standing = standing or Standing()
        has_ended = memory is None
        waits = standing.waits_for and now - standing.since > _LONG_SECONDS
        if waits and not has_ended:
            line = f"waits for {standing.waits_for}"
        update = goal = ""
        if standing.update >= 0:
            update = f"{standing.update}"
        if standing.goal >= 0 and standing.is_in_fit:
            goal = f"/{standing.goal}"
        is_training = standing.is_in_fit and not has_ended
        rate = pace.samples_per_second if is_training else None
        left = pace.seconds_left if is_training else None
        return cls(
            worker=f"{worker}",
            state="ended" if has_ended else WORDS[standing.state],
            epoch=f"{standing.epoch + 1}" if standing.is_in_fit else UNKNOWN,
            update=update + goal if update else UNKNOWN,
            rate=UNKNOWN if rate is None else f"{rate:,.0f}",
            waiting=_waiting(standing, now),
            memory=UNKNOWN if memory is None else _in_bytes(memory),
            left=UNKNOWN if left is None else clock(left),
            line=line,
        )


def clock(seconds: float) -> str:
    """Returns a time as a clock shows it.

    Args:
        seconds: The time.

    Example:

    >>> clock(61.2), clock(3600 * 30)
    ('1:01', '30:00:00')
    """
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minute:02}:{second:02}"
    return f"{minute}:{second:02}"


def _waiting(standing: Standing, now: float) -> str:
    spent = {state: standing.seconds_in(state, now) for state in State}
    of_fit = sum(
        s for state, s in spent.items() if state not in _OUTSIDE_OF_FIT
    )
    if not of_fit:
        return UNKNOWN
    return f"{spent[State.WAITING] / of_fit:.0%}"


def _in_bytes(count: int) -> str:
    mebibytes = count / 2**20
    if mebibytes < 1000:
        return f"{mebibytes:.0f} MiB"
    return f"{mebibytes / 1024:.1f} GiB"
