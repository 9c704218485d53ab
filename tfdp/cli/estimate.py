"""`tfdp estimate`: what a training script will take of memory."""

import json
import os
import pathlib
import sys
import tempfile
from typing import Any

import click

from tfdp.cli.numbers import SECONDS, WORKERS
from tfdp.doctor import quiet
from tfdp.launching import WorkerGroup

_PROGRAM = (sys.executable, "-u", "-m", "tfdp.bench.estimate_trial")


# Interspersed, an option meant for the script would be read here.
@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--workers",
    type=WORKERS,
    default=1,
    show_default=True,
    metavar="N",
    help="Workers to start the script as.",
)
@click.option(
    "--per-replica-batch",
    "batch",
    type=click.IntRange(min=1),
    metavar="B",
    help="Samples that each replica is to see. By default as many as in the "
    "script.",
)
@click.option(
    "--timeout",
    type=SECONDS,
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="Time until the script's first fit begins.",
)
@click.argument("script")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def estimate(
    workers: int,
    batch: int | None,
    timeout: float,
    script: str,
    args: tuple[str, ...],
) -> None:
    """Says what each replica of SCRIPT will take of memory, and for what.

    SCRIPT is run, as by `tfdp launch`, until its first fit begins, which must
    have callbacks.DataParallel; no step is run. With several workers other
    options are estimated beside: gradients in 16 bits, and the optimizer's
    state shared out.

    \b
    Examples:
      tfdp estimate train.py
      tfdp estimate --workers 2 --per-replica-batch 64 train.py --epochs 3
    """
    if not os.path.isfile(script):
        raise click.BadParameter(
            f"it must be a Python file. Received: '{script}', which is none "
            f"(in {os.getcwd()}). Options of `tfdp estimate` come before the "
            "script, those of the script after it.",
            param_hint="SCRIPT",
        )
    found = _estimated(workers, batch or 0, timeout, [script, *args])
    # It loads TensorFlow, which is not needed to refuse something.
    with quiet():
        from tfdp.memory import Estimate

    first = None
    for each in found:
        name = each.pop("name")
        result = Estimate(**each)
        click.echo(name if first is None else f"\nwith {name}")
        click.echo(result)
        if first is not None and (less := first.total - result.total) > 0:
            click.echo(f"  {less / 2**20:9,.1f}        MiB less")
        first = first or result


def _estimated(
    workers: int, batch: int, timeout: float, command: list[str]
) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        result = pathlib.Path(folder, "result.json")
        program = [*_PROGRAM, str(result), str(batch), *command]
        with WorkerGroup(program, workers) as group:
            try:
                failure = group.wait(timeout)
            except TimeoutError as error:
                raise click.ClickException(
                    f"{error}\nOr give more by --timeout."
                ) from error
        if failure:
            raise click.ClickException(str(failure))
        found: list[dict[str, Any]] = json.loads(result.read_text())
        return found
