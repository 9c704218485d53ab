"""`tfdp doctor`: whether training would start on this machine."""

import io
import sys

import click

from tfdp.cli.numbers import SECONDS
from tfdp.doctor import Section, diagnosis

_MARKS = {"fine": "✓", "warning": "!", "error": "✗"}
_ASCII_MARKS = {"fine": "+", "warning": "!", "error": "x"}
_COLORS = {"fine": "green", "warning": "yellow", "error": "red"}


@click.command()
@click.option(
    "--timeout",
    type=SECONDS,
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Time to wait for the host of another worker.",
)
def doctor(timeout: float) -> None:
    """Says whether training would start here, and if not, why.

    Looks at versions, devices, TF_CONFIG or what the scheduler tells, the
    ports of all workers, cores and precision. Run it where, and as, you would
    run the training, under srun for instance. A TF_CONFIG that is not quite
    right is printed as it was probably meant.

    Ends with exit code 0 where training would start, 1 where it would not.

    Example: tfdp doctor --timeout 5
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    errors = []
    for section in diagnosis(timeout=timeout):
        _print(section)
        errors += section.errors
    if not errors:
        _print_line("fine", "training would start")
        return
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    first, *_ = errors[0].splitlines()
    _print_line("error", f"training would not start: {first}{more}")
    sys.exit(1)


def _print(section: Section) -> None:
    click.secho(section.title, bold=True)
    for line in section.lines:
        _print_line(line.severity, line.text, indent="  ")
    click.echo()


def _print_line(severity: str, text: str, indent: str = "") -> None:
    mark = click.style(_marks()[severity], fg=_COLORS[severity])
    first, *others = text.splitlines()
    click.echo(f"{indent}{mark} {first}")
    for other in others:
        # A line to copy stands alone, without blanks before it.
        is_command = other.startswith("export ")
        click.echo(other if is_command else f"{indent}  {other}")


def _marks() -> dict[str, str]:
    try:
        "✓✗".encode(sys.stdout.encoding or "ascii")
    except (LookupError, UnicodeError):
        return _ASCII_MARKS
    return _MARKS
