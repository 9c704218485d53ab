"""What workers may be started with: how many, and which variables."""

import itertools
import os
import secrets
from collections.abc import Mapping
from typing import Any

from tfdp.checks import checked_count
from tfdp.machine import kernel_variables, thread_variables, tunables
from tfdp.settings import BOARD

# A process each, with a pipe; no machine has cores for more.
MOST_WORKERS = 1024
# More seconds than a process lives, and what the system can still wait for.
MOST_SECONDS = 1e8
# Set to 1 for workers that go on without each other: `tfdp.settings` reads it.
ASYNCHRONOUS = "TFDP_ASYNCHRONOUS"
SECRET = "TFDP_JOB_SECRET"
SET_FOR_WORKERS = (
    "TF_CONFIG",
    ASYNCHRONOUS,
    BOARD,
    "TFDP_RESTART_COUNT",
    "TFDP_WORKER_GROUP",
    "PYTHONUNBUFFERED",
)
WHERE_UNSET = {
    "TF_CPP_MIN_LOG_LEVEL": "2",
    **tunables(),
    **kernel_variables(),
}


def worker_variables() -> dict[str, str]:
    """Returns the variables that all workers of this process have.

    Example:

    >>> worker_variables()["PYTHONUNBUFFERED"]
    '1'
    """
    return {**WHERE_UNSET, **os.environ, "PYTHONUNBUFFERED": "1"}


def group_variables(
    env: Mapping[str, str],
    *,
    cpus_per_worker: int | None,
    are_all_here: bool,
    is_asynchronous: bool,
) -> dict[str, str]:
    """Returns the variables that all workers of a group have.

    Args:
        env: Those that were asked for, which go before others.
        cpus_per_worker: Cores of each worker; `None` for all.
        are_all_here: Whether all workers are started here.
        is_asynchronous: Whether they go on without each other.

    Raises:
        ValueError: If those that do have no secret, and some are elsewhere.

    Example:

    >>> variables = group_variables(
    ...     {"A": "1"},
    ...     cpus_per_worker=None,
    ...     are_all_here=True,
    ...     is_asynchronous=True,
    ... )
    >>> variables["A"], variables["TFDP_ASYNCHRONOUS"]
    ('1', '1')
    """
    variables = {**worker_variables(), **env}
    if cpus_per_worker is not None:
        variables = {**variables, **thread_variables(cpus_per_worker), **env}
    # That of a group which this process is of is not theirs.
    for name in (ASYNCHRONOUS, BOARD):
        variables.pop(name, None)
    if are_all_here:
        variables = {**variables, SECRET: secrets.token_hex(16), **env}
    if is_asynchronous:
        variables[ASYNCHRONOUS] = "1"
        check_secret(variables.get(SECRET, ""), are_all_here=are_all_here)
    return variables


def checked_workers(num_workers: Any, *, least: int = 1) -> int:
    """Returns the number of workers of this machine, after checking it.

    Args:
        num_workers: The number.
        least: How many there must be. Defaults to 1.

    Raises:
        TypeError: If it is not an integer.
        ValueError: If there are too few, or more than 1024.

    Example:

    >>> checked_workers(2)
    2
    """
    count = checked_count(
        "num_workers", num_workers, minimum=-(10**40), maximum=10**40
    )
    if count < least:
        raise ValueError(
            "A group must have at least one worker. Received: "
            f"num_workers={count}. Use 1 for a single process."
        )
    if count > MOST_WORKERS:
        raise ValueError(
            f"A machine has at most {MOST_WORKERS} workers, which are a "
            f"process each. Received: num_workers={count}. Use as many as it "
            "has cores or GPUs."
        )
    return count


def checked_variables(
    env: Mapping[str, str] | None, inherited: Mapping[str, str]
) -> dict[str, str]:
    """Returns variables for workers, after checking their names and values.

    Args:
        env: Values by name; `None` for none.
        inherited: Variables that workers have anyhow. Of what is set for each
            worker, a copy of these does no harm, and is left out.

    Raises:
        TypeError: If it is no mapping, or a name or value is not a text.
        ValueError: If a name is one that the system cannot hold, or one that
            is set for each worker anyhow.

    Example:

    >>> checked_variables({"A": "1"}, {})
    {'A': '1'}
    """
    if not isinstance(env, Mapping | None):
        raise TypeError(
            "`env` must be a mapping of names to values. Received: "
            f'env={env!r}. Write it as {{"NAME": "value"}}.'
        )
    variables = {
        name: value
        for name, value in (env or {}).items()
        if name not in SET_FOR_WORKERS or value != inherited.get(name)
    }
    for text in itertools.chain(*variables.items()):
        if not isinstance(text, str):
            raise TypeError(
                "Names and values of `env` must be texts. Received: "
                f"{text!r} ({type(text).__name__}). Use str(...) of it."
            )
    for name, value in variables.items():
        if not name or "=" in name or "\0" in name + value:
            raise ValueError(
                "A variable of `env` must have a name without =, and no NUL. "
                f"Received: {name!r}={value!r}. Leave it out."
            )
        if name in SET_FOR_WORKERS:
            raise ValueError(
                f"{name} is set for each worker anyhow. Received: "
                f"env={{{name!r}: {value!r}}}. Leave it out."
            )
    return variables


def check_secret(
    secret: str, *, are_all_here: bool, who: str = "Asynchronous workers"
) -> None:
    """Checks that those who let in who knows their secret have one.

    Args:
        secret: What their environment says; empty for nothing.
        are_all_here: Whether all are of this machine, so that one can be
            drawn, or none is needed.
        who: Who they are. Defaults to `"Asynchronous workers"`.

    Raises:
        ValueError: If there is none.

    Example:

    >>> check_secret("", are_all_here=True)
    """
    if not (secret or are_all_here):
        raise ValueError(
            f"{who} of several nodes must know one secret. "
            f"Received: {SECRET} unset or empty. Draw one, as by `openssl rand "
            f"-hex 16`, and export it as {SECRET} on every node before the "
            "launcher starts."
        )
