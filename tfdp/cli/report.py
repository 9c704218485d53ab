"""`tfdp report`: a page of charts from the logs of training runs."""

import pathlib
from collections.abc import Sequence

import click

from tfdp.report import logged_goodput, read, shortened

_LONGEST = 40


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=pathlib.Path),
    default="report",
    show_default=True,
    metavar="DIR",
    help="Folder to write the page and the images to.",
)
@click.option(
    "--name",
    "names",
    multiple=True,
    metavar="NAME",
    help="What to call a run; once for each, in their order.",
)
@click.option(
    "--goodput",
    "is_goodput",
    is_flag=True,
    help="Only print what share of the time was updates that remain, and where "
    "the rest went; writes nothing.",
)
def report(
    runs: Sequence[str],
    output: pathlib.Path,
    names: Sequence[str],
    is_goodput: bool,
) -> None:
    """Draws what the logs of one or several training runs say.

    RUN is a folder with the log that callbacks.RunLogger has written,
    run.jsonl. Writes report.html, which needs no network, and a PNG of each
    chart. Several runs share the axes, with their speed-up over the run with
    the fewest replicas.

    \b
    Examples:
      tfdp report runs/one_gpu runs/four_gpus --output report
      tfdp report --goodput runs/four_gpus
    """
    if is_goodput:
        _print_goodput(runs)
        return
    try:
        found = read(runs, names)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    for run in found:
        _warn(run.complaints)
    try:
        from tfdp.report.page import summary, write_report
    except ModuleNotFoundError as error:
        raise click.ClickException(
            "`tfdp report` needs packages that tfdp alone does not bring. "
            f"Received: no {error.name}. Install them by "
            "pip install 'tfdp[report]'."
        ) from None
    try:
        page, *images = write_report(found, output)
    except OSError as error:
        raise click.ClickException(
            "`--output` must be a folder that can be written to. Received: "
            f"{output} ({error.strerror}). Give another."
        ) from None
    _print_table(*summary(found))
    click.echo()
    for run in found:
        if run.end and run.end.get("words"):
            click.echo(f"{run.name}: {run.end['words']}")
        if run.goodput:
            click.echo(f"{run.name}: goodput {run.goodput}")
    click.echo(f"{page} and {len(images)} images")


def _print_goodput(runs: Sequence[str]) -> None:
    for run in runs:
        try:
            goodput, complaints = logged_goodput(run)
        except ValueError as error:
            raise click.ClickException(str(error)) from None
        _warn(complaints)
        if goodput is None:
            click.echo(f"{run}: goodput unknown, as its log tells no starts")
            continue
        click.echo(f"{run}: goodput {goodput}")
        for part, time, share, words in goodput.rows():
            line = f"  {part:<10}  {time:>12}  {share:>5}  {words}"
            click.echo(line.rstrip())


def _warn(complaints: Sequence[str]) -> None:
    for complaint in complaints:
        click.echo(f"Warning: {complaint}", err=True)


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    head, *rows = [
        [shortened(cell, _LONGEST) for cell in row] for row in (head, *rows)
    ]
    columns = zip(head, *rows, strict=True)
    widths = [max(map(len, column)) for column in columns]
    for row in (head, *rows):
        first, *others = (
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        click.echo("  ".join([first, *others]))
