"""`tfdp launch`: a script as several worker processes."""

import contextlib
import functools
import io
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import click

from tfdp.cli.numbers import SECONDS, SECONDS_OR_NONE
from tfdp.cli.rendezvous import appointment_of, met
from tfdp.cli.worker_lines import WorkerLines, say
from tfdp.cli.worker_range import WorkerRange
from tfdp.cluster import Nodes
from tfdp.launch import (
    SECRET,
    SET_FOR_WORKERS,
    AsynchronousGroup,
    ElasticGroup,
    ElasticLauncher,
    ForkServer,
    Launcher,
    Restarts,
    Slots,
    WorkerGroup,
    check_secret,
    worker_variables,
)
from tfdp.machine import (
    MemoryFolder,
    core_shares,
    is_of_this_machine,
    isolate,
)
from tfdp.settings import MEMORY_FOLDER, memory_folder

# Of a job whose workers go on without each other, if nobody says how many.
_RESTARTS_ALONE = 3
# Of one in which there may be fewer.
_RESTARTS_OF_SLOTS = 100
_PRELOAD = ("tensorflow", "keras", "tfdp.callbacks")


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
    type=WorkerRange(),
    help="Number of worker processes. With --nodes or --rendezvous on each "
    "machine; by default 1. As MIN:MAX training goes on with those that are "
    "left when one is lost.",
)
@click.option(
    "--rejoin-seconds",
    type=SECONDS_OR_NONE,
    metavar="SECONDS",
    help="With --workers MIN:MAX, how long all wait for a lost worker that may "
    "be started again, before they go on without it. By default 30.",
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
    "--rendezvous",
    metavar="HOST:PORT",
    help="An address at which the launchers of all machines meet, and learn "
    "each other's. One of them has to be on HOST, and has the chief. Start "
    "this command on each machine; set TFDP_JOB_SECRET to the same text.",
)
@click.option(
    "--workers-total",
    type=int,
    metavar="N",
    help="Number of workers of the whole job, for --rendezvous.",
)
@click.option(
    "--asynchronous",
    is_flag=True,
    help="For tfdp.AsynchronousStrategy: a worker that falls is started again "
    "by itself, and the others go on. With --nodes, set TFDP_JOB_SECRET to the "
    "same text on all of them.",
)
@click.option(
    "--preload/--no-preload",
    default=None,
    help="Whether to import TensorFlow and Keras once, and to fork workers "
    "from there, which start at once then. What SCRIPT sets in its environment "
    "for what it imports comes too late, and is told of; use --env. By default "
    "with --workers MIN:MAX, on Linux, without --cpus-per-worker.",
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
    workers: range | None,
    rejoin_seconds: float | None,
    nodes: str | None,
    node_rank: int | None,
    rendezvous: str | None,
    workers_total: int | None,
    asynchronous: bool,
    preload: bool | None,
    isolated: bool,
    cpus_per_worker: int | None,
    variables: dict[str, str],
    log_dir: str | None,
    verbose: bool,
    max_restarts: int | None,
    start_timeout: float | None,
    timeout: float | None,
    grace_seconds: float,
    script: str,
    args: tuple[str, ...],
) -> None:
    """Runs SCRIPT as several worker processes.

    Each worker gets a TF_CONFIG that names all of them, so that
    tfdp.auto_strategy() in SCRIPT trains on all. Everything after SCRIPT is
    passed on to it, options included.

    When a worker fails, or has been stopped for 3 seconds, the others are
    ended; with --max-restarts all are started again, see in TFDP_RESTART_COUNT
    how often, and find the backup of their last update in memory. SIGINT and
    SIGTERM are passed on to the workers, so that they may save a backup; a
    second signal kills them.

    With --workers MIN:MAX all are started again, but for one that fails again
    and again: the others go on without it for a time, and save a backup before
    they begin anew with it.

    With --asynchronous a worker that fails is started again by itself, and the
    others go on; only the chief, worker 0, ends all. Once it has ended, the
    others have --grace-seconds to do so.

    \b
    Exit codes:
      0      every worker ended with 0; with --asynchronous, the chief did
      2      the command line is wrong, a port is taken, or another job meets
             at --rendezvous
      124    the workers were ended after --timeout
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
      tfdp launch --rendezvous a:29500 --workers-total 4 train.py  (on four)
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
    slots = _slots(
        workers,
        rejoin_seconds,
        apart={
            "--nodes": nodes is not None,
            "--rendezvous": rendezvous is not None,
            "--asynchronous": asynchronous,
        },
    )
    num_workers = workers[-1] if workers else None
    appointment = appointment_of(
        rendezvous,
        workers_total,
        num_workers,
        script,
        apart={
            "--nodes": nodes is not None,
            "--isolated": isolated,
            "--asynchronous": asynchronous,
        },
    )
    if appointment:
        num_workers = appointment.count
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
        max_restarts = _RESTARTS_OF_SLOTS if slots else max_restarts
    if preload and cpus_per_worker is not None:
        raise click.UsageError(
            "Workers that are forked have the cores of the launcher. Received: "
            f"--preload and --cpus-per-worker {cpus_per_worker}. Leave one of "
            "them out."
        )
    if preload is None:
        is_possible = sys.platform == "linux" and cpus_per_worker is None
        preload = slots is not None and is_possible
    lines = WorkerLines()
    server = (
        ForkServer(_PRELOAD, {**worker_variables(), **variables})
        if preload
        else None
    )
    group: Callable[..., Any] = WorkerGroup
    if asynchronous:
        group = functools.partial(
            AsynchronousGroup,
            restarts=Restarts(max_restarts),
            patience=grace_seconds,
            on_fall=lambda failure: say(str(failure)),
        )
    elif slots:
        group = ElasticGroup

    def start_group(
        restart_count: int, num_workers: int = count, **kwargs: Any
    ) -> Any:
        addresses = place.addresses if place else None
        first_index = place.first_index if place else 0
        if appointment:
            addresses, first_index = met(appointment, variables, timeout)
        return group(
            [sys.executable, "-u", script, *args],
            num_workers,
            addresses=addresses,
            first_index=first_index,
            cpus_per_worker=cpus_per_worker,
            env=variables,
            restart_count=restart_count,
            log_dir=log_dir,
            server=server,
            on_line=lines.print if verbose else lines.print_told,
            grace_seconds=grace_seconds,
            **kwargs,
        )

    limits: dict[str, Any] = {
        "max_restarts": max_restarts,
        "timeout": timeout,
        "say": say,
    }
    launcher = (
        ElasticLauncher(start_group, slots=slots, **limits)
        if slots
        else Launcher(start_group, **limits)
    )
    keeps_copies = max_restarts and not asynchronous
    try:
        with _memory(variables) if keeps_copies else contextlib.nullcontext():
            exit_code = launcher.run()
        lines.close()
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise  # Nobody reads on, as after `| head`.
        raise click.ClickException(str(error)) from error
    finally:
        if server:
            server.close()
    sys.exit(exit_code)


def _slots(
    workers: range | None,
    rejoin_seconds: float | None,
    apart: Mapping[str, bool],
) -> Slots | None:
    if workers is None or len(workers) == 1:
        if rejoin_seconds is not None:
            raise click.UsageError(
                "Who is left waits for others where there may be fewer. "
                f"Received: --rejoin-seconds {rejoin_seconds:g} without "
                "--workers MIN:MAX. Leave it out, or say with how few workers "
                "training may go on."
            )
        return None
    for option, is_given in apart.items():
        if is_given:
            raise click.UsageError(
                "Workers become fewer and more on one machine, where they wait "
                f"for each other. Received: --workers {workers[0]}:"
                f"{workers[-1]} and {option}. Give one number of workers."
            )
    return Slots(
        workers[0],
        workers[-1],
        rejoin_seconds=30.0 if rejoin_seconds is None else rejoin_seconds,
    )


@contextlib.contextmanager
def _memory(variables: dict[str, str]) -> Iterator[None]:
    """Gives workers a folder in memory, unless they were given one."""
    if MEMORY_FOLDER in variables or memory_folder():
        yield
        return
    try:
        # A group that this process is part of must leave its keeper alone.
        own = {
            k: v
            for k, v in worker_variables().items()
            if k not in SET_FOR_WORKERS
        }
        folder = MemoryFolder(env=own)
    except OSError as error:
        say(f"Warning: no folder in memory for backups ({error}).")
        yield
        return
    with folder:
        variables[MEMORY_FOLDER] = str(folder.path)
        yield


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
                "Missing option '--workers' (or '--nodes' or '--rendezvous', "
                "to join machines)."
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
