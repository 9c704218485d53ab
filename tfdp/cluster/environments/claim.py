"""What one environment says of this process, and which one counts."""

import dataclasses
from collections.abc import Sequence

from tfdp.cluster.roll_call import Appointment
from tfdp.cluster.tf_config import Place


@dataclasses.dataclass(frozen=True)
class Claim:
    """This process as one of several workers, as one environment has it.

    Args:
        source: What says so.
        rank: Place of this process among the workers.
        size: Number of workers; more than one.
        place: Who they are, or where they meet; a text says what is missing
            for that.
        is_launcher: Whether it has started this process itself, inside of what
            another may say of the machine. Defaults to `False`.
    """

    source: str
    rank: int
    size: int
    place: Place | Appointment | str
    is_launcher: bool = False

    def agrees(self, other: "Claim") -> bool:
        """Whether both have this process at one place of as many workers.

        Args:
            other: What another environment says.
        """
        return (self.rank, self.size) == (other.rank, other.size)


def chosen(claims: Sequence[Claim]) -> Claim | None:
    """Returns the claim that counts.

    Where all agree it is the first. Else it is a launcher's (`torchrun` inside
    of `srun`, say), as it has started this very process.

    Args:
        claims: What environments say, in the order in which they count.

    Returns:
        One of them; `None` if there is none.

    Raises:
        ValueError: If two disagree of which no launcher's decides.

    Example:

    >>> srun = Claim("srun", 0, 2, "")
    >>> torchrun = Claim("torchrun", 1, 8, "", is_launcher=True)
    >>> chosen([srun, torchrun]).source
    'torchrun'
    """
    if not claims:
        return None
    if not all(claims[0].agrees(other) for other in claims):
        claims = [each for each in claims if each.is_launcher] or claims
    for other in claims[1:]:
        if not claims[0].agrees(other):
            first, second = (
                f"{each.source} (worker {each.rank} of {each.size})"
                for each in (claims[0], other)
            )
            raise ValueError(
                "Only one environment may say who the workers are, or all must "
                f"say the same. Received: {first}, and {second}. Unset the "
                "variables of one, or set TF_CONFIG, which counts before all; "
                "TF_CONFIG='{}' is a job of one process."
            )
    return claims[0]
