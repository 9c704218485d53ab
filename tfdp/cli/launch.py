"""`tfdp launch`: a script as several worker processes."""

import contextlib
import functools
import io
import os
import sys
from collections.abc import Callable, Mapping

import click

from tfdp.cli.numbers import SECONDS, SECONDS_OR_NONE
from tfdp.cli.worker_lines import WorkerLines, say
from tfdp.cluster import Nodes
from tfdp.launch import (
    MOST_WORKERS,
    SECRET,
    SET_FOR_WORKERS,
    AsynchronousGroup,
    Launcher,
    Restarts,
    StallWatch,
    WorkerGroup,
    check_secret,
    worker_variables,
)
from tfdp.machine import core_shares, is_of_this_machine, isolate
from tfdp.settings import start_timeout

# Of a job whose workers go on without each other, if nobody says how many.
_RESTARTS_ALONE = 3


def _check_workers(
    ctx: click.Context, param: click.Parameter, value: int | None
) -> int | None:
    if value is not None and value < 1:
        raise click.BadParameter(
            "there must be at least one worker. Received: "
            f"{value}. Use 1 to run the script as a single worker."
        )
    if value is not None and value > MOST_WORKERS:
        raise click.BadParameter(
            f"a machine has at most {MOST_WORKERS} workers, which are a "
            f"process each. Received: {value}. Use as many as it has cores or "
            "GPUs."
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


def _variables(
    ctx: click.Context, param: click.Parameter, value: tuple[str, ...]
) -> dict[str, str]:
    variables = {}
    for text in value:
        name, equals, setting = text.partition("=")
        if not (name and equals):
            raise click.BadParameter(
                f"it must be NAME=VALUE. Received: '{text}'. NAME= sets an "
                "empty value."
            )
        if name in SET_FOR_WORKERS:
            raise click.BadParameter(
                f"the launcher sets {name} itself. Received: '{text}'. Leave "
                "it out."
            )
        variables[name] = setting
    return variables


# Interspersed, an option meant for the script would be read by the launcher.
@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--workers",
    "num_workers",
    type=int,
    metavar="N",
    callback=_check_workers,
    help="Number of worker processes. With --nodes on each; by default 1.",
)
@click.option(
    "--nodes",
    metavar="HOST:PORT,...",
    help="All machines of the job, each with the port of its first worker; the "
    "next worker has the next port. Start this command on each of them.",
)
@click.option(
    "--node-rank",
    type=int,
    metavar="R",
    help="Place of this machine among --nodes, from 0.",
)
@click.option(
    "--asynchronous",
    is_flag=True,
    help="For tfdp.AsynchronousStrategy: a worker that falls is started again "
    "by itself, and the others go on. With --nodes, set TFDP_JOB_SECRET to the "
    "same text on all of them.",
)
@click.option(
    "--isolated",
    is_flag=True,
    help="Give the workers a network of their own, in which there is nothing "
    "else: nobody can connect to them, nor they to anything. On one machine "
    "with Linux; see docs/security.md.",
)
@click.option(
    "--cpus-per-worker",
    type=click.IntRange(min=1),
    metavar="C",
    help="Keep each worker on C cores of its own, with as many threads for "
    "TensorFlow. Without it all workers use all cores.",
)
@click.option(
    "--env",
    "variables",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_variables,
    help="Set a variable for the workers. May be repeated.",
)
@click.option(
    "--log-dir",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Also write the output of each worker to a file: worker-0.log and "
    "so on. What it holds is kept.",
)
@click.option(
    "--verbose",
    is_flag=True,
    help="Also show what TensorFlow prints of itself when it starts, such as "
    "that there is no GPU. The files of --log-dir have it in any case.",
)
@click.option(
    "--max-restarts",
    type=click.IntRange(min=0),
    metavar="M",
    help="How often to start all workers again after one has failed; by "
    "default 0. With --asynchronous how often each by itself, and all after "
    "the chief, worker 0, has failed; by default 3.",
)
@click.option(
    "--start-timeout",
    type=SECONDS,
    metavar="SECONDS",
    help="Time a worker waits for the others at the start. By default 600.",
)
@click.option(
    "--timeout",
    type=SECONDS,
    metavar="SECONDS",
    help="Time after which the workers are ended, restarts included.",
)
@click.option(
    "--stall-seconds",
    type=SECONDS_OR_NONE,
    metavar="SECONDS",
    help="Time without any progress after which it is told which worker keeps "
    "the others waiting, and in which line; 0 for never. By default 20 times "
    "the median update, and at least 60.",
)
@click.option(
    "--on-stall",
    type=click.Choice(["restart", "report"]),
    help="What comes then: the end of all workers, which --max-restarts "
    "starts again, or nothing but the report. By default restart, as long as "
    "a restart is left.",
)
@click.option(
    "--grace-seconds",
    type=SECONDS_OR_NONE,
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Time a worker has to end by itself before it is killed; at most 3 "
    "when another one has failed.",
)
@click.argument("script", callback=_check_script)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def launch(
    num_workers: int | None,
    nodes: str | None,
    node_rank: int | None,
    asynchronous: bool,
    isolated: bool,
    cpus_per_worker: int | None,
    variables: dict[str, str],
    log_dir: str | None,
    verbose: bool,
    max_restarts: int | None,
    start_timeout: float | None,
    timeout: float | None,
    stall_seconds: float | None,
    on_stall: str | None,
    grace_seconds: float,
    script: str,
    args: tuple[str, ...],
) -> None:
    """Runs SCRIPT as several worker processes.

    Each worker gets a TF_CONFIG that names all of them, so that
    tfdp.auto_strategy() in SCRIPT trains on all. Everything after SCRIPT is
    passed on to it, options included.

    When a worker fails, or has been stopped for 3 seconds, the others are
    ended; with --max-restarts all are started again, and see in
    TFDP_RESTART_COUNT how often. SIGINT and SIGTERM are passed on to the
    workers, so that they may save a backup; a second signal kills them.

    With --asynchronous a worker that fails is started again by itself, and the
    others go on; only the chief, worker 0, ends all. Once it has ended, the
    others have --grace-seconds to do so.

    \b
    Exit codes:
      0      every worker ended with 0; with --asynchronous, the chief did
      2      the command line is wrong, or a port is taken
      124    the workers were ended after --timeout or --stall-seconds
      128+n  the launcher was sent signal n, or the worker that failed first
             was killed or stopped by it
      else   that of the worker that failed first

    \b
    Examples:
      tfdp launch --workers 2 train.py --epochs 3
      tfdp launch --isolated --workers 2 train.py
      tfdp launch --asynchronous --workers 4 --max-restarts 9 train.py
      tfdp launch --nodes a:12345,b:12345 --node-rank 0 train.py   (on a)
      tfdp launch --nodes a:12345,b:12345 --node-rank 1 train.py   (on b)
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A character that this terminal lacks must not end the training.
        sys.stdout.reconfigure(errors="replace")
    if start_timeout is not None and "TFDP_START_TIMEOUT" in variables:
        raise click.UsageError(
            "The workers have one time to wait for each other. Received: "
            f"--start-timeout {start_timeout:g} and --env TFDP_START_TIMEOUT="
            f"{variables['TFDP_START_TIMEOUT']}. Leave one of them out."
        )
    place = _place(nodes, node_rank, num_workers)
    count = place.workers_per_node if place else num_workers or 1
    try:
        if cpus_per_worker is not None:
            core_shares(count, cpus_per_worker)
        if isolated:
            if place:
                raise ValueError(
                    "--isolated is for workers of one machine. Received: "
                    "--isolated and --nodes. Use --workers alone, or close "
                    "the ports by a firewall."
                )
            isolate()
        if asynchronous:
            if SECRET in variables:
                raise ValueError(
                    "The secret of an asynchronous job must not be an "
                    "argument, which others on this machine can read. "
                    f"Received: --env {SECRET}=(not shown). Leave it out: one "
                    f"is drawn, unless with --nodes; then export {SECRET}."
                )
            are_all_here = not place or len(place.addresses) == count
            secret = worker_variables().get(SECRET, "")
            check_secret(secret, are_all_here=are_all_here)
        if place:
            place.check_ports()
    except (ValueError, RuntimeError) as error:
        raise click.UsageError(str(error)) from error
    if start_timeout is not None:
        variables["TFDP_START_TIMEOUT"] = f"{start_timeout:g}"
    if max_restarts is None:
        max_restarts = _RESTARTS_ALONE if asynchronous else 0
    if asynchronous and (stall_seconds or on_stall):
        raise click.UsageError(
            "Workers of an asynchronous job do not wait for each other; the "
            "server gives up who hangs. Received: --asynchronous and "
            f"{'--stall-seconds' if stall_seconds else '--on-stall'}. Leave "
            "it out."
        )
    lines = WorkerLines()

    def start_group(restart_count: int) -> WorkerGroup:
        group: Callable[..., WorkerGroup] = WorkerGroup
        if asynchronous:
            group = functools.partial(
                AsynchronousGroup,
                restarts=Restarts(max_restarts),
                patience=grace_seconds,
                on_fall=lambda failure: say(str(failure)),
            )
        return group(
            [sys.executable, "-u", script, *args],
            count,
            addresses=place.addresses if place else None,
            first_index=place.first_index if place else 0,
            cpus_per_worker=cpus_per_worker,
            env=variables,
            restart_count=restart_count,
            log_dir=log_dir,
            on_line=lines.print if verbose else lines.print_told,
            grace_seconds=grace_seconds,
            stalls=stall_watch(restart_count),
        )

    def stall_watch(restart_count: int) -> StallWatch | None:
        if asynchronous or stall_seconds == 0:
            return None
        is_last = restart_count >= max_restarts
        return StallWatch(
            stall_seconds,
            say=say,
            ends=on_stall == "restart" or not (on_stall or is_last),
            start_seconds=_start_seconds(variables),
            log_dir=log_dir,
            are_all_here=not place or len(place.addresses) == count,
        )

    launcher = Launcher(
        start_group, max_restarts=max_restarts, timeout=timeout, say=say
    )
    try:
        exit_code = launcher.run()
        lines.close()
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise  # Nobody reads on, as after `| head`.
        raise click.ClickException(str(error)) from error
    sys.exit(exit_code)


def _start_seconds(variables: Mapping[str, str]) -> float:
    with contextlib.suppress(ValueError):
        return start_timeout({**worker_variables(), **variables})
    # It is for the workers to say what is wrong with it.
    return start_timeout({})


def _place(
    nodes: str | None, node_rank: int | None, num_workers: int | None
) -> Nodes | None:
    if (nodes is None) != (node_rank is None):
        raise click.UsageError(
            "--nodes and --node-rank belong together. Received: "
            f"{'--nodes' if node_rank is None else '--node-rank'} only. Add "
            "the other, or leave out both for workers on one machine."
        )
    if nodes is None or node_rank is None:
        if num_workers is None:
            raise click.UsageError(
                "Missing option '--workers' (or '--nodes', to join machines)."
            )
        return None
    try:
        place = Nodes(tuple(nodes.split(",")), node_rank, num_workers or 1)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if not is_of_this_machine(place.host):
        rule = f"--node-rank {node_rank} is {place.host}"
        say(f"Warning: {rule}, which does not look like this machine.")
    return place
