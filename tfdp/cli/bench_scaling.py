"""`tfdp bench scaling`: how far a training script scales."""

import importlib.util
import json
import os
import pathlib
import sys
import tempfile
from typing import Any

import click

from tfdp.cli.numbers import POSITIVE, SECONDS
from tfdp.launching import WorkerGroup
from tfdp.machine import core_shares, usable_cores

_PROGRAM = (sys.executable, "-u", "-m", "tfdp.bench.scaling_trial")


def _numbers(
    ctx: click.Context, param: click.Parameter, value: str
) -> list[int]:
    try:
        numbers = sorted({int(text) for text in value.split(",")})
    except ValueError:
        numbers = []
    if not numbers or numbers[0] != 1:
        raise click.BadParameter(
            "it must be whole numbers of at least 1 with commas between, 1 "
            "among them, which the others are compared with. Received: "
            f"'{value}'. Use, "
            "for example, 1,2,4."
        )
    return numbers


def _check_script(
    ctx: click.Context, param: click.Parameter, value: str
) -> str:
    if not os.path.isfile(value):
        raise click.BadParameter(
            f"it must be a Python file. Received: '{value}', which is none "
            f"(in {os.getcwd()}). Options of `tfdp bench scaling` come before "
            "the script, those of the script after it."
        )
    return value


def _arguments(
    ctx: click.Context, param: click.Parameter, value: tuple[str, ...]
) -> tuple[str, ...]:
    if value[:1] == ("--",):
        return value[1:]
    own = {name for each in ctx.command.params for name in each.opts}
    for word in value:
        if word.startswith("--") and word.partition("=")[0] in own:
            raise click.BadParameter(
                "options of `tfdp bench scaling` must come before the script. "
                f"Received: {word} after it. Put it before, or -- between, if "
                "it is the script's own."
            )
    return value


# Interspersed, an option meant for the script would be read here.
@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--workers",
    "numbers",
    default="1,2",
    show_default=True,
    metavar="N,N,...",
    callback=_numbers,
    help="Numbers of workers to measure, 1 among them.",
)
@click.option(
    "--updates",
    type=click.IntRange(min=5),
    default=50,
    show_default=True,
    metavar="U",
    help="Updates to measure, after a fifth as many of warm-up.",
)
@click.option(
    "--cpus-per-worker",
    type=click.IntRange(min=1),
    metavar="C",
    help="Cores that each worker is kept on, the same for any number. By "
    "default usable cores / most workers.",
)
@click.option(
    "--bandwidth",
    type=POSITIVE,
    metavar="GBIT",
    help="Predict for a network of so many Gbit/s. By default as measured.",
)
@click.option(
    "--latency",
    type=POSITIVE,
    metavar="US",
    help="Predict for a network of so many microseconds per message. By "
    "default as measured.",
)
@click.option(
    "--timeout",
    type=SECONDS,
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="Time for each number of workers.",
)
@click.argument("script", callback=_check_script)
@click.argument("args", nargs=-1, type=click.UNPROCESSED, callback=_arguments)
def scaling(
    numbers: list[int],
    updates: int,
    cpus_per_worker: int | None,
    bandwidth: float | None,
    latency: float | None,
    timeout: float,
    script: str,
    args: tuple[str, ...],
) -> None:
    """Measures SCRIPT with some numbers of workers, and predicts more.

    SCRIPT is run once for each number, as by `tfdp launch`, until its first
    fit has made enough updates; what comes after in it does not run. The fit
    must have callbacks.DataParallel. What its callbacks write in so many
    updates, they write.

    Efficiency is samples per second of a replica, over that with one worker.
    From a cost model, fitted to what was measured, come the efficiency of 8,
    64 and 512 workers of the same kind, and the smallest accumulation that
    keeps it at 90 %. Its assumptions are printed with it.

    \b
    Examples:
      tfdp bench scaling --workers 1,2,4 train.py --per-replica-batch 32
      tfdp bench scaling --bandwidth 25 --latency 20 train.py
    """
    cpus_per_worker = _cores(numbers[-1], cpus_per_worker)
    if importlib.util.find_spec("scipy") is None:
        raise click.ClickException(
            "`tfdp bench scaling` needs packages that tfdp alone does not "
            "bring. Received: no scipy. Install them by "
            "pip install 'tfdp[bench]'."
        )
    from tfdp.bench import Measurement, Point, prediction, print_table

    measurements = []
    for number in numbers:
        click.echo(f"measuring {number} worker(s) ...", err=True)
        found = _measured(
            number, cpus_per_worker, updates, timeout, [script, *args]
        )
        point = Point(**found.pop("point"))
        if point.workers != number:
            raise click.ClickException(
                "The script must train on all workers that are started. "
                f"Received: a strategy of {point.workers} worker(s) among "
                f"{number}. Use `tfdp.auto_strategy()`."
            )
        measurements.append(Measurement(point, **found))
        if measurements[-1].updates < updates:
            click.echo(
                f"Warning: its fit ended after {measurements[-1].updates} "
                f"measured updates of {updates}.",
                err=True,
            )
    print_table(measurements)
    for line in prediction(
        measurements,
        bandwidth=None if bandwidth is None else bandwidth * 1e9 / 8,
        latency=None if latency is None else latency * 1e-6,
        cpus_per_worker=cpus_per_worker,
    ):
        click.echo(line)


def _cores(most: int, given: int | None) -> int | None:
    usable = usable_cores()
    if most > usable:
        raise click.ClickException(
            "Every worker must have a core of its own; others would slow it "
            f"down. Received: --workers up to {most}, and {usable} core(s) to "
            f"use. Measure at most {usable}."
        )
    try:
        core_shares(most, given or usable // most)
    except ValueError as error:
        raise click.ClickException(
            "Every worker must have cores of its own. Received: "
            f"--cpus-per-worker {given} with up to {most} workers, and "
            f"{usable} core(s) to use. Use at most {usable // most}."
        ) from error
    except RuntimeError as error:
        if given is not None:
            raise click.ClickException(str(error)) from error
        return None
    return given or usable // most


def _measured(
    number: int,
    cpus_per_worker: int | None,
    updates: int,
    timeout: float,
    command: list[str],
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        result = pathlib.Path(folder, "result.json")
        with WorkerGroup(
            [*_PROGRAM, str(result), str(updates), *command],
            number,
            cpus_per_worker=cpus_per_worker,
        ) as group:
            try:
                failure = group.wait(timeout)
            except TimeoutError as error:
                raise click.ClickException(
                    f"{error}\nOr measure fewer updates by --updates."
                ) from error
        if failure:
            raise click.ClickException(str(failure))
        if not result.exists():
            raise click.ClickException(
                "The first worker must measure. Received: no measurement of "
                f"{number} worker(s), and no error. Build the model in the "
                "scope of `tfdp.auto_strategy()`."
            )
        return json.loads(result.read_text())
