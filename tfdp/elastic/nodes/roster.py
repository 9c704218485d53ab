"""The machines of a job, their launchers, and the places of their workers."""

import dataclasses
from collections.abc import Collection

from tfdp.checks import checked_count
from tfdp.cluster import Nodes
from tfdp.machine import listening, ports


@dataclasses.dataclass(frozen=True)
class Roster:
    """Machines that have a launcher each, and equally many places for workers.

    Places of workers are counted over all machines. Which of them have one is
    another in every attempt; their addresses are always the same.

    Args:
        addresses: Address (`"host:port"`) of each machine's launcher; its
            workers have the next ports.
        rank: Place of this machine among them, from 0.
        slots_per_node: Places for workers of each. Defaults to 1.

    Raises:
        TypeError: If `slots_per_node` is not an integer.
        ValueError: If an address is malformed, two would share a port, or
            `rank` is not the place of a machine.

    Example:

    >>> roster = Roster(("a:1000", "b:1000"), rank=1, slots_per_node=2)
    >>> roster.worker_addresses([1, 2])
    ['a:1002', 'b:1001']
    >>> roster.own(slots=[0, 1, 2])
    range(2, 3)
    """

    addresses: tuple[str, ...]
    rank: int
    slots_per_node: int = 1

    def __post_init__(self) -> None:
        """Checks that everybody has an address of its own."""
        checked_count("slots_per_node", self.slots_per_node)
        # As if the launcher were a worker: the first one.
        Nodes(self.addresses, self.rank, self.slots_per_node + 1)

    @property
    def address(self) -> str:
        """Address of this machine's launcher."""
        return self.addresses[self.rank]

    @property
    def size(self) -> int:
        """Number of machines."""
        return len(self.addresses)

    @property
    def others(self) -> list[int]:
        """Ranks of all other machines."""
        return [rank for rank in range(self.size) if rank != self.rank]

    @property
    def is_local(self) -> bool:
        """Whether all launchers are on this machine, whichever that is."""
        return all(
            listening.is_loopback(ports.split_address(address)[0])
            for address in self.addresses
        )

    def slots_of(self, rank: int) -> range:
        """Returns the places of a machine's workers.

        Args:
            rank: Place of the machine.
        """
        first = rank * self.slots_per_node
        return range(first, first + self.slots_per_node)

    def check_ports(self) -> None:
        """Checks that launcher and workers can listen on their ports.

        Raises:
            RuntimeError: If another process holds one, by its name.
        """
        own = self.worker_addresses(self.slots_of(self.rank))
        for address in [self.address, *own]:
            _, port = ports.split_address(address)
            try:
                listening.everywhere(port).close()
            except OSError as error:
                holder = ports.holder(port)
                raise RuntimeError(
                    "A launcher and its workers must be able to listen on the "
                    f"ports from that of --nodes on. Received: {address}: "
                    f"{error.strerror}{holder and f', held by {holder}'}. End "
                    "that process, or give the job other ports on all "
                    "machines."
                ) from error

    def worker_addresses(self, slots: Collection[int]) -> list[str]:
        """Returns addresses of workers.

        Args:
            slots: Their places.
        """
        found = []
        for slot in slots:
            rank, local = divmod(slot, self.slots_per_node)
            host, port = ports.split_address(self.addresses[rank])
            found.append(ports.joined_address(host, port + 1 + local))
        return found

    def own(self, slots: Collection[int], rank: int | None = None) -> range:
        """Returns which workers of an attempt a machine has.

        Args:
            slots: Places of all workers of the attempt, in order.
            rank: Place of the machine. Defaults to this one's.

        Returns:
            Their indices among all of the attempt.
        """
        theirs = self.slots_of(self.rank if rank is None else rank)
        here = [index for index, slot in enumerate(slots) if slot in theirs]
        return range(here[0], here[-1] + 1) if here else range(0)
