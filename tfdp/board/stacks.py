"""Stacks of all threads of a process, at a signal.

Python's `faulthandler` writes them in the very handler of the signal, so that
they come where the main thread hangs in C too.
"""

import contextlib
import faulthandler
import signal
from typing import IO

SUFFIX = ".stacks"
# One that is nobody's by custom, where there are such.
_SIGNAL = signal.SIGRTMIN + 9 if hasattr(signal, "SIGRTMIN") else signal.SIGUSR2
_open: list[IO[bytes]] = []


def offer_stacks(path: str) -> int:
    """Has a signal write down the stacks, unless the program handles it.

    Args:
        path: File that they are added to.

    Returns:
        The signal; 0 for none.
    """
    is_free = signal.getsignal(_SIGNAL) is signal.SIG_DFL
    if not is_free or handles("self", _SIGNAL):
        return 0
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        file = open(path, "ab", buffering=0)  # noqa: SIM115
        faulthandler.register(_SIGNAL, file, all_threads=True)
        _open.append(file)
        return int(_SIGNAL)
    return 0


def still_offered(number: int) -> int:
    """Returns a signal, unless the program has taken it since.

    Args:
        number: What `offer_stacks` has returned.

    Returns:
        The signal; 0 for none.
    """
    is_own = number and signal.getsignal(number) is signal.SIG_DFL
    return number if is_own else 0


def handles(process: int | str, number: int) -> bool | None:
    """Whether a process would not be ended by a signal.

    Args:
        process: Its id, or `"self"`.
        number: The signal.

    Returns:
        `None` where the system does not tell.

    Example:

    >>> handles("self", signal.SIGINT)
    True
    """
    try:
        with open(f"/proc/{process}/status") as file:
            fields = dict(line.split(":", 1) for line in file)
        masks = [int(fields[name], 16) for name in ("SigCgt", "SigIgn")]
    except (OSError, KeyError, ValueError):
        return None
    return any(mask >> (number - 1) & 1 for mask in masks)
