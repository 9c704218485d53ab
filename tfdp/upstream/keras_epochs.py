"""How Keras goes through the data of an epoch.

A doorway to private names of Keras, each of which has a contract in
`tests/upstream/test_keras_epochs.py`.
"""

import itertools
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.tensorflow.trainer import (
    TFEpochIterator as _TFEpochIterator,
)
from keras.src.trainers.data_adapters.py_dataset_adapter import (
    OrderedEnqueuer as _OrderedEnqueuer,
)
from keras.src.trainers.data_adapters.py_dataset_adapter import (
    PyDatasetAdapter as _PyDatasetAdapter,
)

from tfdp.upstream.keras_fit import is_symbolic_build


def iterator_under_construction(within: int) -> Any:
    """Returns the `EpochIterator` that is having its data distributed.

    Args:
        within: How many frames above the caller of this function to look.

    Returns:
        The `EpochIterator` of a `fit`, `evaluate` or `predict`, or `None`
        where none is being made.
    """
    frame = sys._getframe(1).f_back
    for _ in range(within):
        caller = frame and frame.f_locals.get("self")
        if isinstance(caller, _TFEpochIterator):
            return caller
        frame = frame and frame.f_back
    return None


def begin_late(epoch_iterator: Any) -> None:
    """Has an `EpochIterator` begin its data when a step wants them.

    Keras looks at the data before the first step, and begins them anew at the
    end of each epoch. An iterator over several devices reads ahead from then
    on, which takes batches from Python code that gives each of them once.

    Args:
        epoch_iterator: An `EpochIterator` whose dataset has a method `later`;
            see `tfdp.strategy.CountedDataset`.
    """
    epoch_iterator.__class__ = _LateEpochIterator


class _LateEpochIterator(_TFEpochIterator):
    """An `EpochIterator` that takes nothing before it is asked to."""

    def _get_iterator(self) -> Any:
        return self._distributed_dataset.later()

    def _enumerate_iterator(self) -> Iterator[tuple[int, int, Any]]:
        if is_symbolic_build(within=2):
            yield 0, 0, iter(self._distributed_dataset)
            return
        for begin, end, later in super()._enumerate_iterator():
            yield begin, end, later.begun()


def py_dataset_in_order(
    epoch_iterator: Any, shuffle: Callable[[list[int]], None] | None = None
) -> tf.data.Dataset | None:
    """Returns a `PyDataset` as a dataset that reads anew whenever it is begun.

    Keras's own has all iterators take from one queue, where they take each
    other's batches.

    Args:
        epoch_iterator: The `EpochIterator` that holds the `PyDataset`.
        shuffle: Shuffles the order of batches in place, where `fit` wants
            them shuffled. `None` for Keras's order.

    Returns:
        The dataset; or `None` where there is no `PyDataset`, or where the one
        that Keras makes reads anew already.
    """
    adapter = getattr(epoch_iterator, "data_adapter", None)
    if not isinstance(adapter, _PyDatasetAdapter):
        return None
    if adapter.enqueuer is None and not (shuffle and adapter.shuffle):
        return None
    reads_ahead = adapter.enqueuer is not None
    # It would be started at the begin of each epoch, and drained at the end.
    adapter.enqueuer = None
    dataset = tf.data.Dataset.from_generator(
        lambda: _batches(adapter, shuffle, reads_ahead),
        output_signature=adapter._output_signature,
    )
    if not reads_ahead:
        return dataset.prefetch(tf.data.AUTOTUNE)
    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.private_threadpool_size = 1
    return dataset.with_options(options)


def _batches(
    adapter: Any,
    shuffle: Callable[[list[int]], None] | None,
    reads_ahead: bool,
) -> Iterator[Any]:
    """Goes through a `PyDataset` once, by its own workers if it has any."""
    batches = _Order(adapter.py_dataset)
    if batches.indices is not None and adapter.shuffle:
        (shuffle or random.shuffle)(batches.indices)
    count = batches.num_batches
    places = itertools.count() if count is None else range(count)
    if not reads_ahead:
        yield from (adapter._standardize_batch(batches[i]) for i in places)
        return
    queue = _OrderedEnqueuer(
        batches,
        workers=batches.workers,
        use_multiprocessing=batches.use_multiprocessing,
        max_queue_size=batches.max_queue_size,
    )
    queue.start()
    try:
        # The places first: one batch more would be waited for for ever.
        for _, batch in zip(places, queue.get(), strict=False):
            yield adapter._standardize_batch(batch)
    finally:
        queue.stop()


class _Order(keras.utils.PyDataset):
    """The batches of a `PyDataset` in the order of one epoch."""

    def __init__(self, dataset: keras.utils.PyDataset) -> None:
        super().__init__(
            workers=dataset.workers,
            use_multiprocessing=dataset.use_multiprocessing,
            max_queue_size=dataset.max_queue_size,
        )
        self._dataset = dataset
        count = dataset.num_batches
        self.indices = None if count is None else list(range(count))

    @property
    def num_batches(self) -> int | None:
        return None if self.indices is None else len(self.indices)

    def __getitem__(self, place: int) -> Any:
        index = place if self.indices is None else self.indices[place]
        return self._dataset[index]
