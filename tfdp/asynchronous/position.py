"""How far an epoch is, to be saved and gone on from."""

import dataclasses

import numpy as np

_QUEUE = "queue"


@dataclasses.dataclass(frozen=True)
class Position:
    """How far an epoch is.

    Every number below `following` in its row is done, but for those in `open`.

    Attributes:
        epoch: Number of the epoch.
        total: How many batches it has, or `None` while nobody knows.
        following: The number that each row has next; row w has w, w + n, ...
        open: Numbers that were given to a worker and are not done.
    """

    epoch: int
    total: int | None
    following: tuple[int, ...]
    open: tuple[int, ...] = ()

    @property
    def is_over(self) -> bool:
        """Whether all batches are done."""
        return (
            self.total is not None
            and min(self.following) >= self.total
            and not self.open
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns it as arrays by name, for a backup."""
        total = -1 if self.total is None else self.total
        return {
            f"{_QUEUE}/epoch": np.array([self.epoch, total], "int64"),
            f"{_QUEUE}/following": np.array(self.following, "int64"),
            f"{_QUEUE}/open": np.array(self.open, "int64"),
        }

    @classmethod
    def taken_from(cls, state: dict[str, np.ndarray]) -> "Position | None":
        """Takes it out of a state; `None` if it is not in it.

        Raises:
            ValueError: If it is there, and no position.
        """
        names = ("epoch", "following", "open")
        found = [state.pop(f"{_QUEUE}/{name}", None) for name in names]
        if all(array is None for array in found):
            return None
        try:
            (epoch, total), following, still = (
                [int(number) for number in array]  # type: ignore[union-attr]
                for array in found
            )
            if not following or min([epoch, *following, *still]) < 0:
                raise ValueError
        except (TypeError, ValueError):
            raise ValueError(
                "The position in an epoch is that of a queue of batches. "
                f"Received: {found}. Load what was saved."
            ) from None
        return cls(
            epoch,
            None if total < 0 else total,
            tuple(following),
            tuple(still),
        )
