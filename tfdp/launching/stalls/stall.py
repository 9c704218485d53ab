"""A stall in words: who has not come, and in which line it is instead."""

import dataclasses
from collections.abc import Sequence

from tfdp.board import State
from tfdp.launching.stalls.finding import Finding


@dataclasses.dataclass(frozen=True)
class Stall:
    """Workers of which none has made progress for too long.

    Attributes:
        seconds: For how long.
        reason: Why that is too long.
        now: When it was found, by the clock of the boards.
        findings: The workers of this machine.
        are_all_here: Whether there are no others.
    """

    seconds: float
    reason: str
    now: float
    findings: Sequence[Finding]
    are_all_here: bool = True

    @property
    def late(self) -> list[Finding]:
        """Those that others wait for; none where nobody is behind.

        In this order: who does not run at all, who has begun fewer steps than
        others, who is not waiting where another one is, and who runs a line
        of the program's own.
        """
        most = max((x.standing.step for x in self.findings), default=0)
        is_waiting = [
            x for x in self.findings if x.standing.state is State.WAITING
        ]
        for late in (
            [x for x in self.findings if x.held],
            [x for x in self.findings if x.standing.step < most],
            [x for x in self.findings if is_waiting and x not in is_waiting],
            [x for x in self.findings if x.is_in_program],
        ):
            if 0 < len(late) < len(self.findings) or (
                late and len(self.findings) == 1
            ):
                return late
        return []

    def __str__(self) -> str:
        """Says who has not come, and where all of them are."""
        late = self.late
        lines = [
            f"No worker has made progress for {self.seconds:.3g} s "
            f"({self.reason})."
        ]
        for each in late:
            aim = self._aim(late)
            lines.append(
                f"Worker {each.worker} has not {aim}: {self._at(each)}"
            )
        if not late and not self.are_all_here:
            lines.append("Those of other machines may not have come.")
        for each in self.findings:
            if each not in late:
                lines.append(f"Worker {each.worker}: {self._at(each)}")
        return "\n".join(lines)

    @property
    def stacks(self) -> str:
        """All of it, with the stacks of all threads."""
        parts = [str(self)]
        for each in self.findings:
            text = each.stacks or f"None: {each.without}."
            parts.append(
                f"=== worker {each.worker} (process {each.standing.pid}) ==="
                f"\n{text}"
            )
        return "\n\n".join(parts) + "\n"

    def _aim(self, late: list[Finding]) -> str:
        others = [x for x in self.findings if x not in late]
        for each in others:
            if each.standing.state is State.WAITING:
                return f"come to {each.standing.waits_for}"
        update = max(late[0].standing.update, 0) + 1
        waited = ", which others wait for" if others else ""
        return f"made update {update}{waited}"

    def _at(self, each: Finding) -> str:
        changed = each.standing.changed
        since = f", for {self.now - changed:.3g} s" if changed else ""
        return f"{each.words}{since}"
