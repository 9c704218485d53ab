"""A node of a `TrainJob`, of Kubeflow's Trainer v2.

Its runtime has the policy `torch`, of which the trainer's container is given
`PET_NNODES`, `PET_NODE_RANK`, `PET_MASTER_ADDR` and `PET_MASTER_PORT`
(pkg/runtime/framework/plugins/torch/torch.go of
https://github.com/kubeflow/trainer). Other policies do not tell how many nodes
there are, or speak of JAX.
"""

from collections.abc import Mapping

from tfdp.cluster.environments.claim import Claim
from tfdp.cluster.environments.torchrun import DEFAULT_PORT
from tfdp.cluster.environments.variables import port, rank_and_size
from tfdp.cluster.roll_call import Appointment
from tfdp.machine import ports


def claim(variables: Mapping[str, str]) -> Claim | None:
    """Returns what the variables of a `TrainJob` say.

    Each node is a worker, and trains on all of its GPUs: the number of
    processes per node is not asked.

    Args:
        variables: Environment variables of this process.

    Returns:
        What they say, or `None` where they are unset, or there is one node.

    Raises:
        ValueError: If one of them is malformed, or they contradict each other.

    Example:

    >>> told = {
    ...     "PET_NNODES": "4",
    ...     "PET_NODE_RANK": "1",
    ...     "PET_MASTER_ADDR": "train-node-0-0.train",
    ...     "PET_MASTER_PORT": "29500",
    ... }
    >>> claim(told).place.address
    'train-node-0-0.train:29500'
    """
    host = variables.get("PET_MASTER_ADDR", "").strip()
    found = rank_and_size(variables, "PET_NODE_RANK", "PET_NNODES")
    if found is None or not host:
        return None
    rank, size = found
    source = "the TrainJob's variables"
    address = ports.joined_address(
        host,
        port(variables, ["TFDP_PORT", "PET_MASTER_PORT"], default=DEFAULT_PORT),
    )
    place = Appointment(address, size, rank, name="TrainJob", source=source)
    return Claim(source, rank, size, place)
