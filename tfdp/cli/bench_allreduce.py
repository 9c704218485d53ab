"""`tfdp bench allreduce`: what all-reduces cost here, and which pack to use."""

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
    "--cpus-per-worker",
    type=click.IntRange(min=1),
    metavar="C",
    help="Keep each of those workers on C cores of its own, as tfdp launch "
    "does.",
)
@click.option(
    "--timeout",
    type=SECONDS,
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="Time after which workers started by --workers are ended.",
)
@click.option("--quick", is_flag=True, hidden=True)
def allreduce(
    num_workers: int | None,
    cpus_per_worker: int | None,
    timeout: float,
    quick: bool,
) -> None:
    """Measures the all-reduce, and recommends a size of packs.

    Prints time and bandwidth of the all-reduce that synchronises gradients,
    for tensors of 4 KiB to 64 MiB, and for 41 MB of gradients in packs: as
    many tensors as are sent at a time. The bandwidth is the bytes of the
    tensor over the time; "bus" is what each replica sends, as nccl-tests
    define it, to compare with the speed of the network.

    Another size of packs than the default is recommended only if it is faster
    by more than 5 %, and in three rounds of four. The gradients are all there
    at once here; where a network is slow and the layers are many, small packs
    also begin earlier, so compare the recommended size in your training.

    Start it as you would start the training, on every worker: with the same
    TF_CONFIG, or by srun. --workers N needs one machine and neither of them.

    \b
    Examples:
      tfdp bench allreduce --workers 2 --cpus-per-worker 1
      srun tfdp bench allreduce
    """
    if num_workers == 1:
        raise click.UsageError(
            "An all-reduce needs at least 2 replicas. Received: --workers 1. "
            "Pass --workers 2, or leave it out for the cluster, or the "
            "devices, that this process finds."
        )
    if cpus_per_worker is not None and num_workers is None:
        raise click.UsageError(
            "--cpus-per-worker is for workers that are started here. "
            f"Received: --cpus-per-worker {cpus_per_worker} without "
            "--workers. Pass --workers too, or leave it out."
        )
    probe.run(
        "tfdp.bench.all_reduce_trials",
        *(["--quick"] if quick else []),
        num_workers=num_workers,
        cpus_per_worker=cpus_per_worker,
        timeout=timeout,
    )
