"""Batches of arrays, whose rows are found by a batch's number."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfdp.data.numbered.feeding import EndOfData


class ArrayBatches:
    """Gathers the rows of single batches.

    Args:
        gather: Returns the rows of all arrays at an array of places.
        count: How many rows there are.
        batch_size: Rows of a batch.
        seed: Seed of the order, another one in each epoch; `None` for that of
            the rows.

    Attributes:
        total: Batches of an epoch.
    """

    def __init__(
        self,
        gather: Callable[[np.ndarray], Any],
        count: int,
        batch_size: int,
        seed: int | None,
    ) -> None:
        self._gather = gather
        self._count = count
        self._batch_size = batch_size
        self._seed = seed
        self.total = -(-count // batch_size)

    @property
    def facts(self) -> dict[str, Any]:
        """What must be the same on all workers, by name."""
        return {
            "the number of samples": self._count,
            "the batch size": self._batch_size,
            "the seed of the order": self._seed,
        }

    def epoch(self, number: int) -> "_Epoch":
        """Begins an epoch."""
        return _Epoch(self, number)

    def rows(self, epoch: int, number: int) -> np.ndarray:
        """Returns which rows make up a batch."""
        begin = number * self._batch_size
        places = np.arange(begin, min(begin + self._batch_size, self._count))
        if self._seed is None or self._count < 2:
            return places
        with tf.device("CPU:0"):
            return tf.random.experimental.index_shuffle(
                tf.constant(places),
                tf.constant([self._seed % 2**31, epoch], tf.int32),
                tf.constant(self._count - 1, tf.int64),
            ).numpy()

    def batch(self, epoch: int, number: int) -> Any:
        """Returns a batch of an epoch."""
        if number >= self.total:
            raise EndOfData(self.total)
        return self._gather(self.rows(epoch, number))


class _Epoch:
    def __init__(self, arrays: ArrayBatches, number: int) -> None:
        self._arrays = arrays
        self._number = number

    def batch(self, number: int) -> Any:
        return self._arrays.batch(self._number, number)

    def close(self, *, is_over: bool) -> None:
        pass
