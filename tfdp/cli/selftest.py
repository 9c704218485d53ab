"""`tfdp selftest`: whether a training here is that of one device."""

import click

from tfdp.cli import probe
from tfdp.cli.numbers import SECONDS, WORKERS


@click.command()
@click.option(
    "--workers",
    "num_workers",
    type=WORKERS,
    metavar="N",
    help="Start N workers on this machine. Without it this process is a "
    "worker of the cluster that it was started on.",
)
@click.option(
    "--timeout",
    type=SECONDS,
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
    probe.run("tfdp.bench.selftest", num_workers=num_workers, timeout=timeout)
