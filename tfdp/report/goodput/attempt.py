"""The time from a start of the workers to their end."""

import dataclasses
from collections.abc import Mapping

# What a worker says of its time, by its state, and the part that it is of.
# All else is other.
_PART_OF = {
    "starting": "starting",
    "meeting": "waiting",
    "waiting": "waiting",
    "tracing": "tracing",
    "validating": "validation",
    "saving": "backups",
    "replaying": "repeating",
}
_UPDATES = ("first_step", "training", "callbacks")


@dataclasses.dataclass(frozen=True)
class Attempt:
    """Workers that are started together, and end together.

    Times are seconds of one clock that only goes forward; that of another
    launcher may differ.

    Attributes:
        started: When their start began.
        ended: When all of them had ended, or what is known of them ends.
        launched: When their launcher began; `None` where they had none.
        workers: How many they were; 0 where that is not known.
        lost: When one of them was lost, by which all ended; `None` for none.
        spent: Seconds of the first worker in each state, by its name, from
            `started` on; up to `lost`, where that is known.
        update: Updates that the weights have seen at its end; -1 where it has
            not trained.
        made: Updates made.
        unfinished: Seconds, of those spent, of the step under way at the loss.

    Example:

    >>> spent = {"starting": 4.0, "training": 5.0}
    >>> attempt = Attempt(0.0, 10.0, spent=spent, update=10, made=10)
    >>> parts = attempt.parts(lost_updates=2)
    >>> parts["starting"], parts["updates"], parts["repeating"], parts["other"]
    (4.0, 4.0, 1.0, 1.0)
    """

    started: float
    ended: float
    launched: float | None = None
    workers: int = 0
    lost: float | None = None
    spent: Mapping[str, float] = dataclasses.field(default_factory=dict)
    update: int = -1
    made: int = 0
    unfinished: float = 0.0

    @property
    def seconds(self) -> float:
        """How long it took."""
        return max(self.ended - self.started, 0.0)

    @property
    def has_trained(self) -> bool:
        """Whether it has come to a `fit`."""
        return self.update >= 0

    @property
    def begun(self) -> int:
        """The updates that the weights had seen when it began to train."""
        return max(self.update - self.made, 0)

    def parts(self, lost_updates: int = 0) -> dict[str, float]:
        """Returns where its seconds went; their sum is `seconds`.

        Args:
            lost_updates: How many of its updates were made again later.
        """
        noticing = 0.0
        if self.lost is not None:
            noticing = min(max(self.ended - self.lost, 0.0), self.seconds)
        room = self.seconds - noticing
        known = sum(self.spent.values())
        # Boards and launcher read the same clock, one after the other.
        fit = min(room / known, 1.0) if known else 1.0
        parts = {"noticing": noticing}
        in_updates = 0.0
        for state, seconds in self.spent.items():
            if state in _UPDATES:
                in_updates += fit * seconds
            else:
                part = _PART_OF.get(state, "other")
                parts[part] = parts.get(part, 0.0) + fit * seconds
        unfinished = 0.0
        if self.lost is not None:
            unfinished = min(fit * self.unfinished, in_updates)
        share = min(lost_updates / self.made, 1.0) if self.made else 0.0
        remain = (in_updates - unfinished) * (1 - share) if self.made else 0.0
        again = (in_updates - unfinished) * share + unfinished
        parts["updates"] = remain
        parts["repeating"] = parts.get("repeating", 0.0) + again
        rest = self.seconds - sum(parts.values())
        parts["other"] = parts.get("other", 0.0) + max(rest, 0.0)
        return parts
