"""From the numbers of batches to the batches."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any, Protocol


class Feed(Protocol):
    """What says which batches a worker reads.

    Attributes:
        epoch: Number of the epoch under way.
        first_epoch: Number of the first one of the `fit`, as its program gave
            it.
        failure: What ended the reading of batches last, if anything did.
    """

    epoch: int
    first_epoch: int
    failure: Exception | None

    def take(self) -> int | None:
        """Waits for the number of the next batch; `None` at the end."""

    def end_of_data(self, total: int) -> None:
        """Takes note that the epoch has so many batches.

        Numbers from there on that were taken are no batches.
        """

    def give_up(self, number: int) -> None:
        """Takes note that a number that was taken last will be no batch."""


class EndOfData(Exception):
    """There is no batch of this number.

    Attributes:
        total: How many there are.
    """

    def __init__(self, total: int) -> None:
        super().__init__(f"There are {total} batches.")
        self.total = total


class Gone(Exception):
    """A batch was passed, and cannot be read again."""


class Reading(Protocol):
    """The batches of one epoch."""

    def batch(self, number: int) -> Any:
        """Returns a batch.

        Raises:
            EndOfData: If the epoch has no batch of this number.
            Gone: If it was passed, and cannot be read again.
        """

    def close(self, *, is_over: bool) -> None:
        """Takes note that this worker reads no more of it.

        Args:
            is_over: Whether that is because the epoch is over.
        """


class Source(Protocol):
    """The batches of all epochs."""

    @property
    def total(self) -> int | None:
        """How many an epoch has, where that is known."""

    @property
    def facts(self) -> dict[str, Any]:
        """What else must be the same on all workers, by name."""

    def epoch(self, number: int) -> Reading:
        """Begins an epoch; 0 is the first of a `fit`."""


def fed(
    feed: Feed,
    source: Source,
    first_epoch: int,
    no_data: Callable[[], Exception],
) -> Iterator[Any]:
    """Goes through the batches of the epoch under way that a feed hands out.

    Args:
        feed: What hands out their numbers.
        source: What makes batches of them.
        first_epoch: Number of the first epoch of `fit`.
        no_data: Makes the error of an epoch without any batch.
    """
    epoch = feed.epoch
    reading = source.epoch(epoch - first_epoch)
    lost: list[int] = []
    is_over = False
    if source.total is not None:
        feed.end_of_data(source.total)
    try:
        while (number := feed.take()) is not None:
            try:
                batch = reading.batch(number)
            except EndOfData as end:
                if end.total == 0:
                    raise no_data() from None
                feed.end_of_data(end.total)
            except Gone:
                lost.append(number)
                feed.give_up(number)
            else:
                yield batch
                del batch
        is_over = True
    except Exception as error:
        # TensorFlow makes another of it.
        feed.failure = error
        raise
    finally:
        reading.close(is_over=is_over)
        if lost:
            _tell_of(lost, epoch)


def _tell_of(lost: list[int], epoch: int) -> None:
    warnings.warn(
        "What a lost worker has not trained on, the others read again. "
        f"Received: batches {', '.join(map(str, lost))} of epoch {epoch}, "
        "which were passed, of data that yield each batch once, or shuffle "
        "what is shuffled; nobody has trained on them. Give `fit` arrays, a "
        "`keras.utils.PyDataset`, or the order of `tfdp.shuffled_range`.",
        stacklevel=2,
    )
