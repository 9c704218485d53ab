"""Epochs of a number of steps, which begin where the last one ended."""

from typing import Any

from tfdp.data.numbered.feeding import EndOfData, Reading, Source


class InSteps:
    """Cuts what batches there are into epochs of as many.

    Args:
        source: The batches; each of its epochs is begun when the one before is
            used up.
        steps: Batches of an epoch, of all workers together.

    Attributes:
        total: `steps`.

    Raises:
        ValueError: If an epoch would end in its midst.
    """

    def __init__(self, source: Source, steps: int) -> None:
        count = source.total
        if count is not None and count % steps:
            raise ValueError(
                "`steps_per_epoch` are batches of all workers together, of "
                f"data that do not end in an epoch. Received: {steps} of "
                f"{count} batches. Repeat the dataset, or leave "
                "`steps_per_epoch` out."
            )
        self._source = source
        self.total = steps
        self._round = -1
        self._reading: Reading | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What must be the same on all workers, by name."""
        return self._source.facts

    def epoch(self, number: int) -> "_Epoch":
        """Begins an epoch."""
        return _Epoch(self, number)

    def close(self) -> None:
        """Reads no more."""
        if self._reading is not None:
            self._reading.close(is_over=False)
            self._round, self._reading = -1, None

    def batch(self, epoch: int, number: int) -> Any:
        """Returns a batch of an epoch."""
        if number >= self.total:
            raise EndOfData(self.total)
        place, count = epoch * self.total + number, self._source.total
        begun, place = (0, place) if count is None else divmod(place, count)
        if begun != self._round or self._reading is None:
            if self._reading is not None:
                self._reading.close(is_over=True)
            self._round, self._reading = begun, self._source.epoch(begun)
        try:
            return self._reading.batch(place)
        except EndOfData as end:
            raise ValueError(
                "Data have as many batches as all steps of `fit`. Received: "
                f"{end.total} batches, and steps_per_epoch={self.total} in "
                f"epoch {epoch} of this `fit`, counted from 0. Repeat the "
                "dataset."
            ) from None


class _Epoch:
    def __init__(self, steps: InSteps, number: int) -> None:
        self._steps = steps
        self._number = number

    def batch(self, number: int) -> Any:
        return self._steps.batch(self._number, number)

    def close(self, *, is_over: bool) -> None:
        # The next epoch goes on where this one has ended.
        pass
