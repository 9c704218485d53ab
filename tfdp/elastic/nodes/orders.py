"""What a launcher that leads tells the others, and they tell it."""

import dataclasses
from typing import Any, Self

from tfdp.launching import WorkerFailure
from tfdp.launching.worker_failure import WorkerOutcome

_LONGEST_LINE = 500


@dataclasses.dataclass(frozen=True)
class Report:
    """How the workers of a machine are, in an attempt.

    Args:
        attempt: Which attempt, from 1; 0 before there is one.
        runs: Whether workers run, or what they have started.
        updates: How many updates they have made.
        outcomes: What has become of each.
        failure: Whose failure has ended them; `None` for nobody's.
        is_past: Whether a worker has come to what follows its `fit`.
        leaves: Whether the launcher was told to end.

    Example:

    >>> report = Report(attempt=1, runs=True)
    >>> Report.of(report.as_fields()) == report
    True
    """

    attempt: int = 0
    runs: bool = False
    updates: int = 0
    outcomes: tuple[WorkerOutcome, ...] = ()
    failure: WorkerFailure | None = None
    is_past: bool = False
    leaves: bool = False

    @classmethod
    def of(cls, told: dict[str, Any]) -> Self:
        """Returns what was told; where it cannot be, that nothing was.

        Args:
            told: Of `as_fields`.
        """
        try:
            failure = told.get("failure")
            return cls(
                attempt=int(told["attempt"]),
                runs=bool(told["runs"]),
                updates=int(told["updates"]),
                outcomes=tuple(WorkerOutcome(**o) for o in told["outcomes"]),
                failure=failure and _failure(**failure),
                is_past=bool(told["is_past"]),
                leaves=bool(told["leaves"]),
            )
        except (KeyError, TypeError, ValueError):
            return cls()

    def as_fields(self) -> dict[str, Any]:
        """Returns what is told."""
        told = dataclasses.asdict(self)
        told["outcomes"] = list(told["outcomes"])
        if self.failure:
            lines = self.failure.last_lines
            # A moment of this machine's clock, which others do not know.
            told["failure"]["lost_at"] = None
            told["failure"]["last_lines"] = [x[:_LONGEST_LINE] for x in lines]
        return told


def _failure(last_lines: list[str], **fields: Any) -> WorkerFailure:
    return WorkerFailure(last_lines=tuple(last_lines), **fields)


@dataclasses.dataclass(frozen=True)
class Order:
    """What who leads tells a launcher.

    Args:
        attempt: Which attempt this is of, from 1; 0 before there is one.
        restart_count: How often workers were started before.
        slots: Places of all workers of the attempt, in order.
        signal: What to send to the workers; 0 for nothing.
        kills: Whether they are to be killed.
        exit_code: That of the job, once it is over; `None` before.

    Example:

    >>> order = Order(attempt=1, slots=(0, 2))
    >>> Order.of(order.as_fields()) == order
    True
    """

    attempt: int = 0
    restart_count: int = 0
    slots: tuple[int, ...] = ()
    signal: int = 0
    kills: bool = False
    exit_code: int | None = None

    @classmethod
    def of(cls, told: dict[str, Any]) -> Self:
        """Returns what was told; where it cannot be, that nothing was.

        Args:
            told: Of `as_fields`.
        """
        try:
            code = told["exit_code"]
            return cls(
                attempt=int(told["attempt"]),
                restart_count=int(told["restart_count"]),
                slots=tuple(map(int, told["slots"])),
                signal=int(told["signal"]),
                kills=bool(told["kills"]),
                exit_code=None if code is None else int(code),
            )
        except (KeyError, TypeError, ValueError):
            return cls()

    def as_fields(self) -> dict[str, Any]:
        """Returns what is told."""
        return {**dataclasses.asdict(self), "slots": list(self.slots)}
