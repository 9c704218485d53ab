"""Where and with how many others a process is to meet."""

import dataclasses

from tfdp.checks import checked_count
from tfdp.cluster.addresses import check_address
from tfdp.machine import listening, ports

MOST_WORKERS = 65536


@dataclasses.dataclass(frozen=True)
class Appointment:
    """An address at which all workers of a job meet, and this one's part.

    Args:
        address: `"host:port"` of the machine whose process holds the roll
            call.
        size: Number of workers of the job.
        rank: Place of this worker among them, from 0; 0 holds the roll call.
            `None` where nobody has one: whoever can listen at the address
            holds it, and places follow from the order in which others come.
        count: Number of workers that this process speaks for; 1 where they
            have ranks. Defaults to 1.
        name: What tells the job from others, where it has no secret.
        source: Who has told all this, for messages.
        visible_gpus: Which of the GPUs it sees are this worker's; `None` for
            all.

    Raises:
        TypeError: If a number is none.
        ValueError: If the address is malformed, there are no workers, or the
            rank is not the place of one.

    Example:

    >>> Appointment("a:29500", size=4, rank=1).is_host
    False
    """

    address: str
    size: int
    rank: int | None = None
    count: int = 1
    name: str = ""
    source: str = ""
    visible_gpus: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        """Checks the address and the numbers."""
        check_address(self.address)
        checked_count("workers_total", self.size, maximum=MOST_WORKERS)
        checked_count("workers", self.count)
        if self.count > self.size:
            raise ValueError(
                "A launcher's workers are some of the job's. Received: "
                f"{self.count} worker(s) here, {self.size} in all. Start "
                "fewer here, or give all launchers the larger number."
            )
        if self.rank is not None and not 0 <= self.rank < self.size:
            raise ValueError(
                "A rank must be the place of a worker of the job. Received: "
                f"rank {self.rank} of {self.size} workers. Use one from 0 to "
                f"{self.size - 1}, another for every worker."
            )

    @property
    def host(self) -> str:
        """Host of the address, without brackets."""
        return ports.split_address(self.address)[0]

    @property
    def is_host(self) -> bool:
        """Whether this process has to hold the roll call, or may."""
        if self.rank is None:
            return ports.is_of_this_machine(self.host)
        return self.rank == 0

    @property
    def is_local(self) -> bool:
        """Whether only processes of this machine can come."""
        return listening.is_loopback(self.host)

    def describe(self) -> str:
        """Returns what is known before all have met.

        Example:

        >>> print(Appointment("a:29500", size=4, rank=1).describe())
        worker 1 of 4, who tell each other their addresses at a:29500
        """
        who = "some" if self.rank is None else f"worker {self.rank}"
        return (
            f"{who} of {self.size}, who tell each other their addresses at "
            f"{self.address}"
        )
