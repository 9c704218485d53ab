"""The machines of a job that was started by hand on each, and their ports."""

import collections
import dataclasses

from tfdp.checks import checked_count
from tfdp.cluster.cluster import Cluster
from tfdp.machine import listening


@dataclasses.dataclass(frozen=True)
class Nodes:
    """Machines that run equally many workers, on ports that follow each other.

    Args:
        first_addresses: Address (`"host:port"`) of each machine's first
            worker; the next worker has the next port.
        rank: Place of this machine among them, from 0.
        workers_per_node: Number of workers on each. Defaults to 1.

    Raises:
        TypeError: If `workers_per_node` is not an integer.
        ValueError: If an address is malformed, two workers of a machine would
            share a port, or `rank` is not the place of a machine.

    Example:

    >>> nodes = Nodes(("a:1000", "b:1000"), rank=1, workers_per_node=2)
    >>> nodes.addresses
    ('a:1000', 'a:1001', 'b:1000', 'b:1001')
    >>> nodes.first_index
    2
    """

    first_addresses: tuple[str, ...]
    rank: int
    workers_per_node: int = 1

    def __post_init__(self) -> None:
        """Checks the rank, and that every worker has an address of its own."""
        count = len(self.first_addresses)
        if not 0 <= self.rank < count:
            raise ValueError(
                "The rank must be the place of a machine among the nodes. "
                f"Received: rank={self.rank}, with {count} node(s). Use one "
                f"from 0 to {count - 1}, another on every machine."
            )
        checked_count("workers_per_node", self.workers_per_node, maximum=65535)
        # A malformed one is told as it was given.
        for address in dict.fromkeys(self.first_addresses):
            Cluster.of([address], 0)
        addresses = self.addresses
        for address, count in collections.Counter(addresses).items():
            if count > 1:
                raise ValueError(
                    "Every worker must have an address of its own. Received: "
                    f"{address} more than once, with nodes "
                    f"{','.join(self.first_addresses)} of "
                    f"{self.workers_per_node} worker(s), each with the next "
                    "port. Name every machine once, or leave room between "
                    "the ports of two nodes on one machine."
                )
        Cluster.of(addresses, self.first_index)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Address of every worker of the job, by its index."""
        found = []
        for first in self.first_addresses:
            host, _, port = first.rpartition(":")
            found += [
                f"{host}:{int(port) + local}"
                for local in range(self.workers_per_node)
            ]
        return tuple(found)

    @property
    def first_index(self) -> int:
        """Index of the first worker of this machine."""
        return self.rank * self.workers_per_node

    @property
    def host(self) -> str:
        """Name of this machine, as the others know it."""
        return self.first_addresses[self.rank].rpartition(":")[0]

    def check_ports(self) -> None:
        """Checks that the workers of this machine can listen on their ports.

        Raises:
            RuntimeError: If another process holds one, by its name.
        """
        addresses = self.addresses
        for local in range(self.workers_per_node):
            Cluster.of(addresses, self.first_index + local).check_port()


def free_addresses(count: int) -> list[str]:
    """Returns addresses of this machine that nobody listens on now.

    Args:
        count: Number of addresses.

    Returns:
        Addresses with different ports, on the machine's own 127.0.0.1.

    Example:

    >>> len(set(free_addresses(3)))
    3
    """
    return [f"127.0.0.1:{port}" for port in listening.spare(count)]
