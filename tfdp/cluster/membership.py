"""Which of a job's workers this process is."""

from typing import NamedTuple

from tfdp.cluster.cluster import Cluster


class Membership(NamedTuple):
    """A worker among the workers that train together.

    Attributes:
        worker_index: Place of this process among them.
        num_workers: How many there are.
        takes_whole_batches: Whether each step is of a batch of one worker
            alone, and not of the shares of all.
    """

    worker_index: int = 0
    num_workers: int = 1
    takes_whole_batches: bool = False


_joined: list[Membership] = []


def join(membership: Membership) -> None:
    """Says which worker this process is, now that its strategy is made."""
    _joined[:] = [membership]


def membership() -> Membership:
    """Returns which worker this process is; the only one without a strategy.

    Raises:
        RuntimeError: If the environment names several workers, and no
            strategy has joined them yet.
    """
    if _joined:
        return _joined[0]
    cluster = Cluster.from_environment()
    if cluster is not None and cluster.is_training and cluster.num_workers > 1:
        raise RuntimeError(
            "A dataset is split between workers whose strategy is made. "
            f"Received: no strategy yet in a job of {cluster.num_workers} "
            "workers. Create the strategy first: `strategy = "
            "tfdp.auto_strategy()`."
        )
    return Membership()
