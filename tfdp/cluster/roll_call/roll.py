"""Who has come so far, and who has which place in the end."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

_SHOWN = 8


@dataclasses.dataclass(frozen=True, eq=False)
class Party:
    """Workers of one process that has come.

    Args:
        addresses: Address of each.
        rank: Place of its only worker; `None` where the order decides.
    """

    addresses: tuple[str, ...]
    rank: int | None = None


class Seats(NamedTuple):
    """What a process has learned when all have come.

    Attributes:
        addresses: Address of every worker of the job, by its index.
        first_index: Index of the first of this process's workers.
    """

    addresses: tuple[str, ...]
    first_index: int


class Roll:
    """The workers of a job who have come, until they are all.

    Args:
        size: Number of workers of the job.
        is_ranked: Whether they have ranks. Else the place of each follows from
            the order in which they enter.

    Attributes:
        most: How many were here at a time, those included that have left.

    Example:

    >>> roll = Roll(3, is_ranked=False)
    >>> roll.enter(Party(("a:1",)))
    ''
    >>> roll.enter(last := Party(("b:1", "b:2")))
    ''
    >>> roll.seats(last)
    Seats(addresses=('a:1', 'b:1', 'b:2'), first_index=1)
    """

    def __init__(self, size: int, *, is_ranked: bool) -> None:
        """Nobody has come."""
        self._size = size
        self._is_ranked = is_ranked
        self._parties: list[Party] = []
        self._ranks: set[int | None] = set()
        self.most = 0

    @property
    def come(self) -> int:
        """Number of workers that have come."""
        return sum(len(party.addresses) for party in self._parties)

    @property
    def is_complete(self) -> bool:
        """Whether all have."""
        return self.come == self._size

    @property
    def missing(self) -> str:
        """Which ranks never came, in words; empty where nobody has one."""
        if not self._is_ranked:
            return ""
        ranks = [r for r in range(self._size) if r not in self._ranks]
        more = len(ranks) - _SHOWN
        text = ", ".join(map(str, ranks[:_SHOWN]))
        return f"{text} and {more} more" if more > 0 else text

    def enter(self, party: Party) -> str:
        """Lets somebody in, if there is a place.

        Args:
            party: Who has come.

        Returns:
            Why there is no place; empty where there is.
        """
        if (party.rank is not None) != self._is_ranked:
            with_rank = "has a rank" if self._is_ranked else "has no rank"
            return (
                "Either all workers have a rank, or none has. Received: one "
                f"{'with' if party.rank is not None else 'without'}, where "
                f"the first {with_rank}. Start all in the same way."
            )
        if party.rank is not None:
            if not 0 <= party.rank < self._size or len(party.addresses) != 1:
                return (
                    "A rank must be the place of one worker of the job. "
                    f"Received: rank {party.rank} of {self._size}."
                )
            for other in self._parties:
                if other.rank == party.rank:
                    return (
                        "Every worker must have a rank of its own. Received: "
                        f"rank {party.rank} twice, {other.addresses[0]} and "
                        f"{party.addresses[0]}."
                    )
        taken = {a for other in self._parties for a in other.addresses}
        twice = taken.intersection(party.addresses)
        if twice or len(set(party.addresses)) < len(party.addresses):
            return (
                "Every worker must have an address of its own. Received: "
                f"{', '.join(sorted(twice) or party.addresses)} twice."
            )
        if self.come + len(party.addresses) > self._size:
            return (
                f"The job has {self._size} workers. Received: "
                f"{len(party.addresses)} more, after {self.come} have come. "
                "Start fewer, or give all of them the larger number."
            )
        self._parties.append(party)
        self._ranks.add(party.rank)
        self.most = max(self.most, self.come)
        return ""

    def leave(self, party: Party) -> None:
        """Frees the place of somebody who is gone before all have come.

        Args:
            party: Who is gone.
        """
        if not self.is_complete:
            self._parties.remove(party)

    def seats(self, party: Party) -> Seats:
        """Returns everybody's address, and the place of one, once all are here.

        Args:
            party: Who asks.
        """
        ordered: Sequence[Party] = self._parties
        if self._is_ranked:
            ordered = sorted(ordered, key=lambda each: each.rank or 0)
        addresses = tuple(a for each in ordered for a in each.addresses)
        return Seats(addresses, addresses.index(party.addresses[0]))
