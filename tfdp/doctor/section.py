"""What a look at an installation found, part by part."""

import dataclasses
from typing import Literal

Severity = Literal["fine", "warning", "error"]


@dataclasses.dataclass(frozen=True)
class Line:
    """One thing that was looked at.

    Args:
        severity: `"error"` where training would not start, `"warning"` where
            it would, but not well, otherwise `"fine"`.
        text: What was found, in one line or more.
    """

    severity: Severity
    text: str


@dataclasses.dataclass(frozen=True)
class Section:
    """What was found about one part of the installation or the cluster.

    Args:
        title: What it is about.
        lines: What was found.
    """

    title: str
    lines: tuple[Line, ...]

    @property
    def errors(self) -> list[str]:
        """What keeps training from starting."""
        return [x.text for x in self.lines if x.severity == "error"]
