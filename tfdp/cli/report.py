"""`tfdp report`: a page of charts from the logs of training runs."""

import pathlib
from collections.abc import Sequence

import click

from tfdp.report import (
    called,
    logged_goodput,
    read,
    shortened,
    write_trace,
)

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
@click.option(
    "--timeline",
    "is_timeline",
    is_flag=True,
    help="Only write timeline.json, a trace of all workers: for Perfetto "
    "(https://ui.perfetto.dev) and chrome://tracing.",
)
def report(
    runs: Sequence[str],
    output: pathlib.Path,
    names: Sequence[str],
    is_goodput: bool,
    is_timeline: bool,
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
      tfdp report --timeline runs/four_gpus
    """
    if is_goodput and is_timeline:
        raise click.UsageError(
            "Only one of `--goodput` and `--timeline` is done at a time. "
            "Received: both. Call `tfdp report` twice."
        )
    if is_timeline:
        _write_timeline(runs, names, output)
        return
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
        raise _no_output(output, error) from None
    _print_table(*summary(found))
    click.echo()
    for run in found:
        if run.end and run.end.get("words"):
            click.echo(f"{run.name}: {run.end['words']}")
        if run.goodput:
            click.echo(f"{run.name}: goodput {run.goodput}")
    click.echo(f"{page} and {len(images)} images")


def _write_timeline(
    runs: Sequence[str], names: Sequence[str], output: pathlib.Path
) -> None:
    try:
        named = dict(zip(called(runs, names), runs, strict=True))
        path = output / "timeline.json"
        about = write_trace(named, path)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise _no_output(output, error) from None
    clocks = [each for of_run in about["clocks"].values() for each in of_run]
    errors = [each["error_ms"] for each in clocks]
    known = "an unknown error" if None in errors else f"{max(errors):.2f} ms"
    click.echo(
        f"{path}: {len(clocks)} workers, whose clocks are aligned to {known}. "
        "Open it in https://ui.perfetto.dev or chrome://tracing."
    )


def _no_output(output: pathlib.Path, error: OSError) -> click.ClickException:
    return click.ClickException(
        "`--output` must be a folder that can be written to. Received: "
        f"{output} ({error.strerror}). Give another."
    )


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
