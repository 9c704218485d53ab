"""The variables that `mpirun` and `mpiexec` set.

Of Open MPI `OMPI_COMM_WORLD_RANK`, `OMPI_COMM_WORLD_SIZE`,
`OMPI_COMM_WORLD_LOCAL_RANK` and `OMPI_COMM_WORLD_LOCAL_SIZE`
(https://docs.open-mpi.org/en/v5.0.x/tuning-apps/environment-var.html).

Of MPICH, Intel MPI and what else starts by Hydra `PMI_RANK`, `PMI_SIZE`,
`MPI_LOCALRANKID` and `MPI_LOCALNRANKS` (src/pm/hydra/proxy/pmip_cb.c of
https://github.com/pmodels/mpich).

None of them is an address: `MASTER_ADDR`, and `MASTER_PORT`, have to be handed
on, as by `mpirun -x MASTER_ADDR=host`. MPI itself is not used.
"""

from collections.abc import Mapping

from tfdp.cluster.environments.claim import Claim
from tfdp.cluster.environments.torchrun import appointment
from tfdp.cluster.environments.variables import rank_and_size

_KINDS = {
    "Open MPI's variables": (
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
    ),
    "MPI's variables": (
        "PMI_RANK",
        "PMI_SIZE",
        "MPI_LOCALRANKID",
        "MPI_LOCALNRANKS",
    ),
}


def claim(variables: Mapping[str, str]) -> Claim | None:
    """Returns what the variables of an MPI launcher say.

    Args:
        variables: Environment variables of this process.

    Returns:
        What they say, or `None` where there are none, or one process.

    Raises:
        ValueError: If one of them is malformed, or they contradict each other.

    Example:

    >>> told = {"PMI_RANK": "0", "PMI_SIZE": "2", "MASTER_ADDR": "a"}
    >>> claim(told).place.address
    'a:29500'
    """
    for source, (rank_name, size_name, *local) in _KINDS.items():
        found = rank_and_size(variables, rank_name, size_name)
        if found is None:
            continue
        rank, size = found
        place = appointment(
            variables,
            rank,
            size,
            source,
            name="mpi",
            local=(local[0], local[1]),
        )
        return Claim(source, rank, size, place, is_launcher=True)
    return None
