"""What is wrong with a model, in words."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that makes training differ from that on one big device.

    Args:
        what: The rule, as a sentence.
        where: What was found instead, and in which part of the model.
        severity: `"error"` where the result would be wrong, `"warning"` where
            it would be in some cases, `"note"` where it differs by intent.
        way_out: What to do about it, as a sentence.

    Example:

    >>> print(Finding("Water must be wet.", "sand", "error", "Add water."))
    error: Water must be wet. Received: sand. Add water.
    """

    what: str
    where: str
    severity: Literal["error", "warning", "note"]
    way_out: str

    @property
    def message(self) -> str:
        """The finding as one line, without its severity."""
        return f"{self.what} Received: {self.where}. {self.way_out}"

    def __str__(self) -> str:
        """Returns the finding as one line."""
        return f"{self.severity}: {self.message}"


class Findings(list[Finding]):
    """A list of findings that prints one per line; empty if all is sound.

    Example:

    >>> print(Findings())
    nothing found
    """

    def of(self, severity: str) -> list[Finding]:
        """Returns the findings of one severity."""
        return [each for each in self if each.severity == severity]

    def __str__(self) -> str:
        """Returns one line per finding."""
        return "\n".join(map(str, self)) or "nothing found"
