"""A distributed dataset that knows how often it was begun."""

from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from tfdp.upstream import tf_datasets


class CountedDataset(tf_datasets.DistributedDataset):
    """Passes everything on to a distributed dataset, and counts its epochs.

    A shuffling draws another order each time that it is begun. To take up
    training where it was left, a dataset must have been begun as often.

    Args:
        dataset: What TensorFlow's strategy has made.
        source: This worker's dataset that it was made from.

    Attributes:
        source: As given.
        times_begun: How many iterators were made of it.
    """

    def __init__(
        self, dataset: tf.distribute.DistributedDataset, source: tf.data.Dataset
    ) -> None:
        self._dataset = dataset
        self.source = source
        self.times_begun = 0

    def __iter__(self) -> Iterator[Any]:
        """Begins an epoch."""
        self.times_begun += 1
        return iter(self._dataset)

    @property
    def element_spec(self) -> Any:
        """Type of a batch."""
        return self._dataset.element_spec

    @property
    def cardinality(self) -> Any:
        """Number of batches, as TensorFlow knows it."""
        return self._dataset.cardinality

    def reduce(
        self, initial_state: Any, reduce_func: Callable[..., Any]
    ) -> Any:
        """Reduces over an epoch, as TensorFlow does."""
        self.times_begun += 1
        return self._dataset.reduce(initial_state, reduce_func)

    def __getattr__(self, name: str) -> Any:
        """Looks up what is not said here."""
        if name == "_dataset":
            raise AttributeError(name)
        return getattr(self._dataset, name)
