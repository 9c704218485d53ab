"""Launchers that meet at one address, of `tfdp launch --rendezvous`."""

import math
import signal
from collections.abc import Mapping

import click

from tfdp.cli.worker_lines import say
from tfdp.cluster.roll_call import Appointment, Seats, attend
from tfdp.launching import SECRET, worker_variables
from tfdp.machine import ending_signals
from tfdp.settings import start_timeout


def appointment_of(
    address: str | None,
    workers_total: int | None,
    num_workers: int | None,
    script: str,
    *,
    apart: Mapping[str, bool],
) -> Appointment | None:
    """Returns where this launcher meets the others, if it is to.

    Args:
        address: Of `--rendezvous`.
        workers_total: Of `--workers-total`.
        num_workers: Of `--workers`.
        script: What is started; tells the job from others.
        apart: Which options are set that cannot go with it, by their name.

    Raises:
        click.UsageError: If one is missing, or they contradict each other.
    """
    if (address is None) != (workers_total is None):
        given = "--workers-total" if address is None else "--rendezvous"
        raise click.UsageError(
            "--rendezvous and --workers-total belong together. Received: "
            f"{given} only. Add the other, or leave out both."
        )
    if address is None or workers_total is None:
        return None
    for name, is_set in apart.items():
        if is_set:
            raise click.UsageError(
                "--rendezvous is for launchers that meet at one address, "
                f"whose workers end together. Received: --rendezvous and "
                f"{name}. Leave out one of them."
            )
    try:
        return Appointment(
            address,
            workers_total,
            count=num_workers or 1,
            # Folders may differ from machine to machine.
            name=script.replace("\\", "/").rpartition("/")[2],
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def met(
    appointment: Appointment,
    variables: Mapping[str, str],
    timeout: float | None,
) -> Seats:
    """Waits for the other launchers, and says which workers are here.

    Signals have their usual effect meanwhile, as there is no worker yet.

    Args:
        appointment: Where.
        variables: Those that are set for the workers.
        timeout: Seconds of all attempts; `None` for no limit.

    Raises:
        click.UsageError: If this launcher is refused there, or
            `TFDP_START_TIMEOUT` is no number.
        TimeoutError: If some do not come in time.
    """
    theirs = {**worker_variables(), **variables}
    try:
        seconds = start_timeout(theirs)
        with ending_signals(signal.SIG_DFL):
            seats = attend(
                appointment,
                secret=theirs.get(SECRET, ""),
                timeout=min(seconds, timeout or math.inf),
            )
    except (RuntimeError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    first, last = seats.first_index, seats.first_index + appointment.count - 1
    here = f"worker {first} is" if first == last else f"{first} to {last} are"
    say(f"{appointment.size} workers met at {appointment.address}: {here} here")
    return seats
