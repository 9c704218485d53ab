"""`tfdp selftest`: whether a training here is that of one device."""

import os
import sys

import click

from tfdp.workers import WorkerGroup

_PROGRAM = (sys.executable, "-u", "-m", "tfdp.selftest")
# Tells the report from what TensorFlow prints.
_PREFIX = "[selftest] "


@click.command()
@click.option(
    "--workers",
    "num_workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Start N workers on this machine. Without it this process is a "
    "worker of the cluster that it was started on.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=120.0,
    show_default=True,
    metavar="SECONDS",
    help="Time after which workers started by --workers are ended.",
)
def selftest(num_workers: int | None, timeout: float) -> None:
    """Trains for seconds, and compares with one device.

    A small network is trained on all workers, with accumulation and an uneven
    last batch, and by plain Keras on one device with the whole batch; the
    weights must be the same up to rounding. It also takes the time of
    all-reduces.

    Start it as you would start the training, on every worker: with the same
    TF_CONFIG, or by srun. --workers N needs one machine and neither of them.

    Ends with exit code 0 where the weights are the same, and 1 where they are
    not or a worker failed, which is named.

    \b
    Examples:
      tfdp selftest --workers 2
      srun tfdp selftest
    """
    if num_workers is None:
        sys.stdout.flush()
        # Signals and the exit code are the training's own.
        os.execv(_PROGRAM[0], _PROGRAM)
    with WorkerGroup(
        [*_PROGRAM, _PREFIX], num_workers, on_line=_print_report
    ) as group:
        try:
            failure = group.wait(timeout)
        except TimeoutError as error:
            raise click.ClickException(str(error)) from error
    if failure:
        raise click.ClickException(str(failure))


def _print_report(worker: int, line: str) -> None:
    _, found, text = line.partition(_PREFIX)
    if found:
        click.echo(text)
