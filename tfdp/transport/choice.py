"""By what gradients travel between workers, as far as one worker can tell."""

import os
from typing import Any, Literal, get_args

from tfdp.settings import COMMUNICATION, communication
from tfdp.upstream import gloo

Communication = Literal["auto", "tensorflow", "gloo"]


def checked_communication(given: Any) -> Communication:
    """Returns what gradients are to travel by, after checking it.

    Args:
        given: `"auto"`, `"tensorflow"`, `"gloo"`, or `None` for what the
            variable `TFDP_COMMUNICATION` says.

    Raises:
        ValueError: If it is none of these.

    Example:

    >>> checked_communication("gloo"), checked_communication(None)
    ('gloo', 'auto')
    """
    chosen: Any = communication() if given is None else given
    if chosen in list(get_args(Communication)):
        return chosen
    where = "communication" if given is not None else COMMUNICATION
    raise ValueError(
        f"`{where}` must be 'auto', 'tensorflow' or 'gloo'. Received: "
        f"{where}={chosen!r}. Leave it out for 'auto', which takes gloo where "
        "all workers have it."
    )


def obstacle() -> str:
    """Returns why nothing can travel by gloo here; nothing where it can.

    Example:

    >>> obstacle() in ("", "gloo is not installed")
    True
    """
    if not gloo.is_there():
        return "gloo is not installed"
    if not hasattr(os, "memfd_create"):
        return "this system shares no memory without a name"
    return ""
