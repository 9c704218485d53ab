"""What workers may be started with: how many, and which variables."""

import itertools
from collections.abc import Mapping
from typing import Any

from tfdp.checks import checked_count

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
    "TFDP_RESTART_COUNT",
    "TFDP_WORKER_GROUP",
    "PYTHONUNBUFFERED",
)


def checked_workers(num_workers: Any) -> int:
    """Returns the number of workers of this machine, after checking it.

    Args:
        num_workers: The number.

    Raises:
        TypeError: If it is not an integer.
        ValueError: If there is none, or there are more than 1024.

    Example:

    >>> checked_workers(2)
    2
    """
    count = checked_count(
        "num_workers", num_workers, minimum=-(10**40), maximum=10**40
    )
    if count < 1:
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
        TypeError: If a name or value is not a text.
        ValueError: If a name is one that the system cannot hold, or one that
            is set for each worker anyhow.

    Example:

    >>> checked_variables({"A": "1"}, {})
    {'A': '1'}
    """
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


def check_secret(secret: str, *, are_all_here: bool) -> None:
    """Checks that workers which let in who knows their secret have one.

    Args:
        secret: What their environment says; empty for nothing.
        are_all_here: Whether all workers are started here, so that one can be
            drawn.

    Raises:
        ValueError: If there is none.

    Example:

    >>> check_secret("", are_all_here=True)
    """
    if not (secret or are_all_here):
        raise ValueError(
            "Asynchronous workers of several nodes must know one secret. "
            f"Received: {SECRET} unset or empty. Draw one, as by `openssl rand "
            f"-hex 16`, and export it as {SECRET} on every node before the "
            "launcher starts."
        )
