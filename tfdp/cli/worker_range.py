"""How many workers a machine has, as an option: `4`, or `1:4`."""

from typing import Any

import click

from tfdp.launch import MOST_WORKERS


class WorkerRange(click.ParamType):
    """A number of workers, or the least and the most of them.

    Its values are a `range` of all numbers that will do.

    Example:

    >>> WorkerRange().convert("2:4", None, None)
    range(2, 5)
    """

    name = "N|MIN:MAX"

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> range:
        """Returns the numbers that a text names.

        Args:
            value: The text.
            param: The option.
            ctx: The command.

        Raises:
            click.BadParameter: If they are none.
        """
        if isinstance(value, range):
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
        return range(least, most + 1)


def _rule(value: Any, way: str) -> str:
    return (
        "it must be a whole number of workers, or the least and the most of "
        f"them. Received: {value}. {way}"
    )
