"""`tfdp launch`: a script as several worker processes."""

import io
import os
import sys
from typing import Any

import click

from tfdp.cli.launch_job import LaunchJob
from tfdp.cli.launch_options import LaunchOptions
from tfdp.cli.numbers import SECONDS, SECONDS_OR_NONE
from tfdp.cli.worker_range import WorkerRange
from tfdp.launching import SET_FOR_WORKERS


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
    "machine; by default 1. As MIN:MAX, which is of all machines together, "
    "training goes on with those that are left when one is lost.",
)
@click.option(
    "--rejoin-seconds",
    type=SECONDS_OR_NONE,
    metavar="SECONDS",
    help="With --workers MIN:MAX, how long all wait for a lost worker or "
    "machine that may come back, before they go on without. By default 30.",
)
@click.option(
    "--nodes",
    metavar="HOST:PORT,...",
    help="All machines of the job, each with the port of its first worker; the "
    "next worker has the next port. Start this command on each of them. With "
    "--workers MIN:MAX the first port is the launcher's, and some machines may "
    "be missing; set TFDP_JOB_SECRET to the same text on all of them.",
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
    "with Linux; see docs/how_to/machines/security.md.",
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
    "--plain",
    is_flag=True,
    help="Print lines alone, without the table of workers below them that a "
    "terminal shows. So it is in CI, too (where CI is set).",
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
def launch(**options: Any) -> None:
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
      2      the command line is wrong, a port is taken, another job meets
             at --rendezvous or --nodes, or other launchers refuse this one
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
      tfdp launch --rendezvous a:29500 --workers-total 4 train.py  (on four)
      tfdp launch --workers 1:4 train.py
      tfdp launch --workers 1:2 --nodes a:2222,b:2222 --node-rank 0 train.py
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A character that this terminal lacks must not end the training.
        sys.stdout.reconfigure(errors="replace")
    sys.exit(LaunchJob(LaunchOptions(**options)).run())
