"""What the environment sets for a training, or leaves as it is.

- `TFDP_START_TIMEOUT`: seconds to wait for the other workers at the start.
- `TFDP_PACK_MIB`: size of the packs that gradients travel in, in MiB.
- `TFDP_COMMUNICATION`: what gradients travel by between CPU workers: `auto`,
  `tensorflow` or `gloo`.
- `TFDP_ASYNCHRONOUS`: 1 where workers go on without each other, which
  `tfdp launch --asynchronous` sets.
- `TFDP_MEMORY_FOLDER`: a private folder in memory that outlives a worker, for
  backups; `tfdp launch --max-restarts` makes and sets it.
- `TFDP_BOARD`: file in which this worker says where it stands, which its
  launcher makes.
- `CI`, `TERM` and `JPY_PARENT_PID`, which others set: whether a person sits at
  the terminal.
"""

import math
import os
from collections.abc import Mapping

MEMORY_FOLDER = "TFDP_MEMORY_FOLDER"
BOARD = "TFDP_BOARD"
COMMUNICATION = "TFDP_COMMUNICATION"
ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
# Several packs of a large model's gradients travel at once; a small model's
# gradients fit in one.
DEFAULT_PACK = 2 * 2**20
_ALL_IN_ONE_PACK = 2**40
_DEFAULT_START_TIMEOUT = 600.0
# What the system can still wait for.
_ALL_OF_A_LIFE = 1e8


def start_timeout(variables: Mapping[str, str] | None = None) -> float:
    """Returns how many seconds to wait for the other workers at the start.

    Args:
        variables: Environment variables. Defaults to those of this process.

    Returns:
        The value of `TFDP_START_TIMEOUT`; 600 where it is unset or empty.

    Raises:
        ValueError: If that is not a positive number.

    Example:

    >>> start_timeout()
    600.0
    """
    default = _DEFAULT_START_TIMEOUT
    seconds = _positive("TFDP_START_TIMEOUT", "of seconds", default, variables)
    return min(seconds, _ALL_OF_A_LIFE)


def pack_bytes() -> int:
    """Returns how large packs of gradients are to be, in bytes.

    Returns:
        The value of `TFDP_PACK_MIB`, in bytes; 2 MiB where it is unset or
        empty.

    Raises:
        ValueError: If that is not a positive number.

    Example:

    >>> pack_bytes()
    2097152
    """
    default = DEFAULT_PACK / 2**20
    mebibytes = _positive("TFDP_PACK_MIB", "of MiB", default)
    return math.ceil(min(mebibytes * 2**20, _ALL_IN_ONE_PACK))


def communication() -> str:
    """Returns what gradients are to travel by between CPU workers.

    Returns:
        The value of `TFDP_COMMUNICATION`; `"auto"` where it is unset or empty.

    Example:

    >>> communication()
    'auto'
    """
    return os.environ.get(COMMUNICATION, "").strip() or "auto"


def is_asynchronous() -> bool:
    """Returns whether workers of this job go on without each other.

    Returns:
        Whether `TFDP_ASYNCHRONOUS` is 1; it is 0, or unset, or empty else.

    Raises:
        ValueError: If it is something else.

    Example:

    >>> is_asynchronous()
    False
    """
    text = os.environ.get("TFDP_ASYNCHRONOUS", "").strip()
    if text not in ("", "0", "1"):
        raise ValueError(
            "TFDP_ASYNCHRONOUS must be 1 or 0. Received: TFDP_ASYNCHRONOUS="
            f"{text!r}. Leave it to `tfdp launch --asynchronous`."
        )
    return text == "1"


def memory_folder() -> str:
    """Returns the folder in memory that outlives a worker.

    Returns:
        The value of `TFDP_MEMORY_FOLDER`; nothing where it is unset.

    Example:

    >>> memory_folder()
    ''
    """
    return os.environ.get(MEMORY_FOLDER, "").strip()


def onednn() -> str | None:
    """Returns what was said of TensorFlow's oneDNN kernels.

    Returns:
        The value of `TF_ENABLE_ONEDNN_OPTS`; `None` where it is unset.

    Example:

    >>> onednn() in (None, "0", "1")
    True
    """
    return os.environ.get(ONEDNN)


def board_file() -> str | None:
    """Returns the file in which this worker says where it stands.

    Returns:
        The value of `TFDP_BOARD`; `None` where it is unset or empty.

    Example:

    >>> print(board_file())
    None
    """
    return os.environ.get(BOARD) or None


def is_attended(variables: Mapping[str, str] | None = None) -> bool:
    """Returns whether a terminal may be one that a person looks at.

    Args:
        variables: Environment variables. Defaults to those of this process.

    Returns:
        `False` in continuous integration, which sets `CI`; in a cell of a
        notebook, whose output keeps what a terminal would write over; and on
        a terminal that cannot (`TERM=dumb`).

    Example:

    >>> is_attended({"TERM": "xterm"}), is_attended({"CI": "true"})
    (True, False)
    """
    variables = os.environ if variables is None else variables
    is_automatic = variables.get("CI", "").lower() not in ("", "0", "false")
    is_simple = variables.get("TERM", "dumb") in ("", "dumb", "unknown")
    return not (is_automatic or is_simple or "JPY_PARENT_PID" in variables)


def _positive(
    name: str,
    unit: str,
    default: float,
    variables: Mapping[str, str] | None = None,
) -> float:
    variables = os.environ if variables is None else variables
    text = variables.get(name, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ValueError(
            f"{name} must be a positive number {unit}. Received: "
            f"{name}={text!r}. Unset it for the default."
        )
    return value
