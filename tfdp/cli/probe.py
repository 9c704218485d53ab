"""Starts a program that examines a cluster, and shows what it reports."""

import os
import sys

import click

from tfdp.launching import WorkerGroup

# Tells the report from what TensorFlow prints.
_PREFIX = "[report] "


def run(
    module: str,
    *options: str,
    num_workers: int | None,
    cpus_per_worker: int | None = None,
    timeout: float,
) -> None:
    """Runs a module of `tfdp.bench.probe`.

    Args:
        module: Its name.
        *options: Its options.
        num_workers: Workers to start on this machine. `None`: this process
            becomes the program, with its signals and exit code.
        cpus_per_worker: Cores of each of those workers. Defaults to all.
        timeout: Seconds after which they are ended.

    Raises:
        click.UsageError: If such workers cannot be started.
        click.ClickException: If one has failed, or time is over.
    """
    # What lies in the folder that this is started in is not for the probe.
    program = [sys.executable, "-P", "-u", "-m", module, *options]
    if num_workers is None:
        sys.stdout.flush()
        os.execv(program[0], program)
    try:
        group = WorkerGroup(
            [*program, "--prefix", _PREFIX],
            num_workers,
            cpus_per_worker=cpus_per_worker,
            on_line=_show_report,
        )
    except (ValueError, RuntimeError) as error:
        raise click.UsageError(str(error)) from error
    with group:
        try:
            failure = group.wait(timeout)
        except TimeoutError as error:
            raise click.ClickException(str(error)) from error
    if failure:
        raise click.ClickException(str(failure))


def _show_report(worker: int, line: str) -> None:
    _, found, text = line.partition(_PREFIX)
    if found:
        click.echo(text)
