"""Numbers of the command line."""

import contextlib
import math
from typing import Any

import click

from tfdp.launching import MOST_SECONDS, MOST_WORKERS

WORKERS = click.IntRange(min=1, max=MOST_WORKERS)


class FiniteRange(click.FloatRange):
    """Floating-point numbers of a range, which what is no number is not in."""

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:
        """Returns the number of a text.

        Args:
            value: The text.
            param: The option.
            ctx: The command.

        Raises:
            click.BadParameter: If it is not one of the range.
        """
        with contextlib.suppress(TypeError, ValueError):
            if not math.isfinite(float(value)):
                self.fail(
                    f"it must be a finite number. Received: '{value}'. Leave "
                    "it out for the default.",
                    param,
                    ctx,
                )
        return super().convert(value, param, ctx)


POSITIVE = FiniteRange(min=0, min_open=True)
SECONDS = FiniteRange(min=0, min_open=True, max=MOST_SECONDS)
SECONDS_OR_NONE = FiniteRange(min=0, max=MOST_SECONDS)
