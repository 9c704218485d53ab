"""Where in its data a training is, and how to get there again."""

import itertools
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from tfdp.data import go_to
from tfdp.strategy import CountedDataset
from tfdp.upstream.keras import keras_data, keras_fit
from tfdp.upstream.tensorflow import tf_datasets, tf_runtime


class Position(NamedTuple):
    """A place in the data.

    Attributes:
        times_begun: How often the dataset was begun, this time included.
        batches: Batches taken since.
    """

    times_begun: int
    batches: int


class DataPosition:
    """Follows the `fit` that is running through its data.

    Made, and told of each step, by a callback of that `fit`.
    """

    def __init__(self) -> None:
        iterator = keras_fit.fit_under_way()
        self._of_arrays = keras_data.batch_of_arrays(iterator)
        self._is_pythons = keras_data.shuffles_in_python(iterator)
        self._dataset: CountedDataset = keras_data.distributed_dataset(iterator)
        self._epochs_share_an_iterator = iterator.steps_per_epoch is not None
        self._now = Position(0, 0)

    def begin_step(self) -> None:
        """Says that a step will take its batches now."""
        begun = self._dataset.times_begun
        if begun != self._now.times_begun:
            self._now = Position(begun, 0)

    def end_step(self, batches: int) -> None:
        """Says that a step has taken its batches."""
        begun, taken = self._now
        self._now = Position(begun, taken + batches)

    @property
    def in_epoch(self) -> Position:
        """Where the next step of this epoch begins."""
        return self._now

    @property
    def of_next_epoch(self) -> Position:
        """Where the next epoch begins, seen from between epochs."""
        begun = self._dataset.times_begun
        if not self._epochs_share_an_iterator:
            return Position(begun + 1, 0)
        is_used_up = begun != self._now.times_begun
        return Position(max(begun, 1), 0) if is_used_up else self._now

    def go_to(self, position: Position) -> bool:
        """Begins the dataset as often as it had been begun at a position.

        The batches taken since are for the steps to skip, and to tell of.

        Args:
            position: Where to go to.

        Returns:
            Whether the dataset had not been begun too often already.
        """
        to_come = position.times_begun - 1 - self._dataset.times_begun
        if self._shufflings:
            for _ in range(to_come):
                # Draws the order of an epoch, and reads nothing of it.
                iter(self._dataset.order)
        self._dataset.times_begun += max(to_come, 0)
        self._now = Position(position.times_begun, 0)
        return to_come >= 0

    def jump(self, batches: int) -> bool:
        """Leaves out batches of the next epoch without reading them.

        Args:
            batches: How many.

        Returns:
            Whether it can: where the order of samples is a function of their
            place, as that of arrays on several workers, and of
            `tfdp.shuffled_range`.
        """
        return go_to(self._dataset.order, batches)

    def is_repeatable(self, drawn_seed: int | None) -> bool:
        """Whether another process would draw the same order.

        Args:
            drawn_seed: The global seed, where no program has set it.
        """
        if self._is_pythons:
            return False
        shufflings = self._shufflings
        if not shufflings:
            return True
        is_drawn = drawn_seed is not None and (
            tf_runtime.global_seed() == drawn_seed
        )
        return not is_drawn and (0, 0) not in itertools.pairwise(shufflings)

    @property
    def micro_batch(self) -> int | None:
        """Samples of a full step, over all workers; `None` if not known."""
        return self._of_arrays or self._dataset.micro_batch

    @property
    def order(self) -> int:
        """A number that differs where the order of samples does."""
        return zlib.crc32(str(self._shufflings).encode())

    @property
    def _shufflings(self) -> list[int]:
        return tf_datasets.shuffle_seeds(self._dataset.order)


def skip(iterator: Iterator[Any], batches: int) -> None:
    """Takes batches, and forgets them."""
    for _ in range(batches):
        next(iterator)
