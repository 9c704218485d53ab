"""How many workers a machine has, as an option: `4`, or `1:4`."""

import dataclasses
from typing import Any

import click

from tfdp.launching import MOST_WORKERS


@dataclasses.dataclass(frozen=True)
class Workers:
    """How many workers there are to be.

    Args:
        least: With how many training may go on.
        most: How many there are at most.
        may_change: Whether some may be lost, and come back.

    Example:

    >>> str(Workers(1, 4, may_change=True)), str(Workers(2, 2))
    ('1:4', '2')
    """

    least: int
    most: int
    may_change: bool = False

    def __str__(self) -> str:
        """Says it as the option does."""
        return (
            f"{self.least}:{self.most}" if self.may_change else f"{self.most}"
        )


class WorkerRange(click.ParamType):
    """A number of workers, or the least and the most of them.

    Example:

    >>> print(WorkerRange().convert("2:4", None, None))
    2:4
    """

    name = "N|MIN:MAX"

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Workers:
        """Returns what a text says.

        Args:
            value: The text.
            param: The option.
            ctx: The command.

        Raises:
            click.BadParameter: If they are none.
        """
        if isinstance(value, Workers):
            return value
        parts = str(value).split(":")
        try:
            least, most = int(parts[0]), int(parts[-1])
        except ValueError:
            self.fail(_rule(value, "Use 2, or 1:4."), param, ctx)
        if len(parts) > 2:
            self.fail(_rule(value, "Use one colon, as in 1:4."), param, ctx)
        if least < 1:
            self.fail(
                "there must be at least one worker. Received: "
                f"{value}. Use 1 to run the script as a single worker.",
                param,
                ctx,
            )
        if least > most:
            self.fail(
                f"MIN must not be above MAX. Received: {value}. Use "
                f"{most}:{least}.",
                param,
                ctx,
            )
        if most > MOST_WORKERS:
            self.fail(
                f"a machine has at most {MOST_WORKERS} workers, which are a "
                f"process each. Received: {value}. Use as many as it has "
                "cores or GPUs.",
                param,
                ctx,
            )
        return Workers(least, most, may_change=len(parts) > 1)


def _rule(value: Any, way: str) -> str:
    return (
        "it must be a whole number of workers, or the least and the most of "
        f"them. Received: {value}. {way}"
    )
