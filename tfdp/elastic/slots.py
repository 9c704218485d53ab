"""Places for the workers of one machine, some of them empty for a time."""

import math
from collections.abc import Collection

from tfdp.checks import checked_count, checked_number

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 300.0


class Slots:
    """Says which slots have a worker in the next attempt, and when it begins.

    A slot whose worker has fallen may have another at once; after further
    falls it is empty for a pause, each twice as long as the last: what falls
    again and again takes little from the others. One that falls later than
    ten times its last pause after the fall before counts as well again.

    Args:
        least: With how many workers training may go on; at least 1.
        most: How many there are at most.
        rejoin_seconds: How long all wait for those that fall, before they go
            on without them. Defaults to 30.
        first_pause: Seconds of the first pause of a slot. Defaults to 1.
        longest_pause: Seconds of the longest one. Defaults to 300.
        forgiven: How many falls of a slot have no pause. Defaults to 1.

    Attributes:
        least: As given.
        most: As given.

    Raises:
        TypeError: If a number is none.
        ValueError: If `least` is below 1 or above `most`, or seconds are
            negative, or a pause zero.

    Example:

    >>> slots = Slots(1, 3, rejoin_seconds=0, forgiven=0)
    >>> slots.fall([2], now=10.0)
    >>> slots.begin_at(10.0), slots.ready(10.0), slots.ready(11.0)
    (10.0, [0, 1], [0, 1, 2])
    """

    def __init__(
        self,
        least: int,
        most: int,
        *,
        rejoin_seconds: float = 30.0,
        first_pause: float = _FIRST_PAUSE,
        longest_pause: float = _LONGEST_PAUSE,
        forgiven: int = 1,
    ) -> None:
        """Has all slots ready."""
        self.least = checked_count("least", least)
        self.most = checked_count("most", most)
        if self.least > self.most:
            raise ValueError(
                "The least number of workers must not be above the most. "
                f"Received: {self.least}:{self.most}. Use {self.most}:"
                f"{self.least}."
            )
        self._patience = checked_number(
            "rejoin_seconds", rejoin_seconds, zero_allowed=True
        )
        self._first = checked_number("first_pause", first_pause)
        self._longest = checked_number("longest_pause", longest_pause)
        self._forgiven = checked_count("forgiven", forgiven, minimum=0)
        self._falls = [0] * self.most
        self._fell_at = [-math.inf] * self.most
        self._empty_until = [-math.inf] * self.most
        self._away: set[int] = set()

    def fall(self, slots: Collection[int], *, now: float) -> None:
        """Takes note that workers have fallen.

        Args:
            slots: Theirs.
            now: Seconds, of a clock that only goes forward.
        """
        for slot in slots:
            last = max(self._pause(self._falls[slot] - 1), self._first)
            if now - self._fell_at[slot] > 10 * last:
                self._falls[slot] = 0
            self._empty_until[slot] = now + self._pause(self._falls[slot])
            self._falls[slot] += 1
            self._fell_at[slot] = now

    def welcome(self, slots: Collection[int]) -> None:
        """Takes note that slots may have workers before their pause is over.

        Args:
            slots: Which.
        """
        for slot in slots:
            self._empty_until[slot] = -math.inf

    def leave(self, slots: Collection[int]) -> None:
        """Takes note that slots are not there, with all of their machine.

        Args:
            slots: Which.
        """
        self._away.update(slots)

    def come(self, slots: Collection[int]) -> None:
        """Takes note that slots are there, whose pauses still count.

        Args:
            slots: Which.
        """
        self._away.difference_update(slots)

    def ready(self, now: float) -> list[int]:
        """Returns the slots that may have a worker.

        Args:
            now: Seconds, of the same clock.
        """
        return [
            slot for slot, until in enumerate(self._until()) if until <= now
        ]

    def begin_at(self, now: float) -> float:
        """Returns when the next attempt begins, of workers that have ended.

        Args:
            now: Seconds, of the same clock.

        Returns:
            Seconds of it; infinite where too few slots are there. It may be
            earlier once those that are away have come.
        """
        last = now + self._patience
        until = sorted(max(each, now) for each in self._until())
        in_time = [each for each in until if each <= last]
        if self._away:
            in_time.append(last)
        return max(in_time[-1:] + [until[self.least - 1]])

    def _until(self) -> list[float]:
        return [
            math.inf if slot in self._away else until
            for slot, until in enumerate(self._empty_until)
        ]

    def _pause(self, falls: int) -> float:
        if falls < self._forgiven:
            return 0.0
        # So many doublings are beyond the longest one anyhow.
        doublings = min(falls - self._forgiven, 60)
        return min(self._first * 2.0**doublings, self._longest)
