"""Numbers, addresses and devices in environment variables."""

from collections.abc import Mapping, Sequence

from tfdp.machine import ports

# That of TensorFlow's own operators, where each process has its own host.
DEFAULT_PORT = 2222
_WAY_OUT = "Correct it, or set TF_CONFIG yourself."


def whole(variables: Mapping[str, str], name: str) -> int:
    """Returns the whole number that a variable has.

    Args:
        variables: Environment variables of this process.
        name: Name of the variable.

    Raises:
        ValueError: If it has none.

    Example:

    >>> whole({"RANK": "1"}, "RANK")
    1
    """
    text = variables.get(name, "").strip()
    if not ports.is_whole(text):
        raise ValueError(
            f"{name} must be a whole number. Received: {name}={text!r}. "
            f"{_WAY_OUT}"
        )
    return int(text)


def rank_and_size(
    variables: Mapping[str, str], rank: str, size: str
) -> tuple[int, int] | None:
    """Returns the place of this process, and how many there are.

    Args:
        variables: Environment variables of this process.
        rank: Name of the variable that has the place.
        size: Name of the one that has the number.

    Returns:
        Both, or `None` where one is unset, or there is one process only.

    Raises:
        ValueError: If they are no whole numbers, or the place is none.

    Example:

    >>> rank_and_size({"R": "1", "N": "2"}, "R", "N")
    (1, 2)
    """
    if not (variables.get(rank) and variables.get(size)):
        return None
    place, count = whole(variables, rank), whole(variables, size)
    if not place < count:
        raise ValueError(
            f"{rank} must be a place among those of {size}. Received: "
            f"{rank}={place}, {size}={count}. {_WAY_OUT}"
        )
    return (place, count) if count > 1 else None


def port(
    variables: Mapping[str, str], names: Sequence[str], *, default: int
) -> int:
    """Returns the port that the first of some variables has.

    Args:
        variables: Environment variables of this process.
        names: Names of variables, of which the first that is set counts.
        default: The port where none is.

    Raises:
        ValueError: If it is no port.

    Example:

    >>> port({"TFDP_PORT": "7000"}, ["TFDP_PORT"], default=2222)
    7000
    """
    for name in names:
        text = variables.get(name, "").strip()
        if text and not ports.is_port(text):
            raise ValueError(
                f"{name} must be a port from 1 to 65535. Received: "
                f"{name}={text!r}. {_WAY_OUT}"
            )
        if text:
            return int(text)
    return default


def shared_gpus(
    variables: Mapping[str, str], local_rank: str, local_size: str
) -> tuple[int, ...] | None:
    """Returns this process's share of GPUs that all of its machine see.

    Args:
        variables: Environment variables of this process.
        local_rank: Name of the one with its place on the machine.
        local_size: Name of the one with the number of processes there.

    Returns:
        Indices into `CUDA_VISIBLE_DEVICES`; `None` for all of them, where that
        is unset, or has fewer than there are processes, as where each was
        given its own.

    Raises:
        ValueError: If the place is not one of those.

    Example:

    >>> told = {"CUDA_VISIBLE_DEVICES": "0,1,2,3", "R": "1", "N": "2"}
    >>> shared_gpus(told, "R", "N")
    (2, 3)
    """
    local = rank_and_size(variables, local_rank, local_size)
    devices = variables.get("CUDA_VISIBLE_DEVICES", "").split(",")
    count = sum(1 for device in devices if device.strip())
    if local is None or count < local[1]:
        return None
    share = count // local[1]
    return tuple(range(local[0] * share, (local[0] + 1) * share))
