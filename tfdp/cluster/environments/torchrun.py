"""The variables of `torchrun`, also as other launchers set them.

`RANK`, `WORLD_SIZE`, `MASTER_ADDR`, `MASTER_PORT`, `LOCAL_RANK`,
`LOCAL_WORLD_SIZE` and `TORCHELASTIC_RUN_ID`, as
https://docs.pytorch.org/docs/stable/elastic/run.html#environment-variables
lists them. `GROUP_RANK`, the place of the machine, is not needed.

`torchrun` itself may listen at `MASTER_PORT`, and says so by
`TORCHELASTIC_USE_AGENT_STORE` (torch/distributed/rendezvous.py); workers then
meet at the port after it.
"""

from collections.abc import Mapping

from tfdp.cluster.environments.claim import Claim
from tfdp.cluster.environments.variables import (
    port,
    rank_and_size,
    shared_gpus,
)
from tfdp.cluster.roll_call import Appointment
from tfdp.machine import ports

# As PyTorch's launchers have it where nobody says otherwise.
DEFAULT_PORT = 29500


def claim(variables: Mapping[str, str]) -> Claim | None:
    """Returns what the variables of `torchrun` say.

    Args:
        variables: Environment variables of this process.

    Returns:
        What they say, or `None` where `RANK` or `WORLD_SIZE` is unset, or
        there is one worker.

    Raises:
        ValueError: If one of them is malformed, or they contradict each other.

    Example:

    >>> told = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "a"}
    >>> print(claim(told).place.describe())
    worker 1 of 2, who tell each other their addresses at a:29500
    """
    found = rank_and_size(variables, "RANK", "WORLD_SIZE")
    if found is None:
        return None
    rank, size = found
    source = "torchrun's variables"
    run = variables.get("TORCHELASTIC_RUN_ID", "")
    return Claim(
        source,
        rank,
        size,
        appointment(
            variables,
            rank,
            size,
            source,
            name=f"{run}, {variables.get('TORCHELASTIC_RESTART_COUNT', '')}",
            local=("LOCAL_RANK", "LOCAL_WORLD_SIZE"),
        ),
        is_launcher=bool(run),
    )


def appointment(
    variables: Mapping[str, str],
    rank: int,
    size: int,
    source: str,
    *,
    name: str,
    local: tuple[str, str],
) -> Appointment | str:
    """Returns where workers meet that were told the first one's machine.

    Args:
        variables: Environment variables of this process.
        rank: Its place.
        size: How many there are.
        source: What has told both.
        name: What else tells the job from others.
        local: Names of the variables with the place of this process on its
            machine, and the number of those.

    Returns:
        The appointment, or what is missing for it.

    Raises:
        ValueError: If the address is malformed.
    """
    host = variables.get("MASTER_ADDR", "").strip()
    if not host:
        return "MASTER_ADDR, the machine of the first worker"
    told = port(variables, ["MASTER_PORT"], default=DEFAULT_PORT)
    if variables.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        told = told + 1 if told < 65535 else told - 1
    return Appointment(
        ports.joined_address(
            host, port(variables, ["TFDP_PORT"], default=told)
        ),
        size,
        rank,
        name=name,
        source=source,
        visible_gpus=shared_gpus(variables, *local),
    )
