"""`tfdp launch`: a script as several worker processes on this machine."""

import io
import os
import signal
import sys
from typing import Any

import click

from tfdp.workers import WorkerGroup

_COLORS = ("cyan", "magenta", "green", "yellow", "blue")


def _check_workers(
    ctx: click.Context, param: click.Parameter, value: int
) -> int:
    if value < 1:
        raise click.BadParameter(
            "there must be at least one worker. Received: "
            f"{value}. Use 1 to run the script as a single worker."
        )
    return value


def _check_script(
    ctx: click.Context, param: click.Parameter, value: str
) -> str:
    if not os.path.isfile(value):
        kind = "is a directory" if os.path.isdir(value) else "does not exist"
        raise click.BadParameter(
            f"it must be a Python file. Received: '{value}', which {kind} "
            f"(in {os.getcwd()}). Options of the launcher come before the "
            "script, those of the script after it."
        )
    return value


# Interspersed, an option meant for the script would be read by the launcher.
@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--workers",
    "num_workers",
    type=int,
    required=True,
    metavar="N",
    callback=_check_workers,
    help="Number of worker processes.",
)
@click.option(
    "--grace-seconds",
    type=click.FloatRange(min=0),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="Time a worker has to end by itself before it is killed.",
)
@click.argument("script", callback=_check_script)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def launch(
    num_workers: int, grace_seconds: float, script: str, args: tuple[str, ...]
) -> None:
    """Runs SCRIPT as several worker processes on this machine.

    Each worker gets a TF_CONFIG that names all of them, so that
    tfdp.auto_strategy() in SCRIPT trains on all. Everything after SCRIPT is
    passed on to it, options included.

    When a worker fails, the others are ended, and its exit code is that of
    this command.

    Example: tfdp launch --workers 2 train.py --epochs 3
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A character that this terminal lacks must not end the training.
        sys.stdout.reconfigure(errors="replace")
    previous = {
        s: signal.signal(s, _exit) for s in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        with WorkerGroup(
            [sys.executable, "-u", script, *args],
            num_workers,
            on_line=_print_line,
            grace_seconds=grace_seconds,
        ) as group:
            failure = group.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if failure:
        click.echo(str(failure), err=True)
        sys.exit(failure.exit_code)


def _print_line(worker: int, line: str) -> None:
    color = _COLORS[worker % len(_COLORS)]
    click.echo(click.style(f"[worker {worker}] ", fg=color) + line)


def _exit(number: int, frame: Any) -> None:
    # The way out ends the workers gently; a second signal does not wait.
    signal.signal(number, signal.SIG_DFL)
    sys.exit(128 + number)
