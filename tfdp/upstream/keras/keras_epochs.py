"""How Keras goes through the data of an epoch.

A doorway to private names of Keras, each of which has a contract in
`tests/upstream/test_keras_epochs.py`.
"""

import contextlib
import itertools
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from tfdp.upstream.keras.keras_fit import is_symbolic_build
from tfdp.upstream.private import Member, Name

_LOST = "batches of Python code would be lost before the first step"
_ADAPTERS = "keras.src.trainers.data_adapters.py_dataset_adapter"
_epoch_iterator = Name(
    "keras.src.backend.tensorflow.trainer.TFEpochIterator", serves=_LOST
)
_enqueuer = Name(f"{_ADAPTERS}.OrderedEnqueuer", serves=_LOST)
_adapter = Name(f"{_ADAPTERS}.PyDatasetAdapter", serves=_LOST)
_LENGTH = "epochs of a dataset split by tfdp.shard end too early"
_dataset_adapter = Name(
    "keras.src.trainers.data_adapters.tf_dataset_adapter.TFDatasetAdapter",
    serves=_LENGTH,
)
_dataset = Member("_dataset", serves=_LENGTH)
_num_batches = Member("_num_batches", serves=_LENGTH)
_distributed_dataset = Member("_distributed_dataset", serves=_LOST)
_catch_stop_iteration = Member("catch_stop_iteration", serves=_LOST)
_enumerate_iterator = Member("_enumerate_iterator", serves=_LOST)
_interrupted_warning = Member(
    "_interrupted_warning",
    serves="epochs that end as they should are warned of",
)
_get_iterator = Member("_get_iterator", serves=_LOST)
_output_signature = Member("_output_signature", serves=_LOST)
_standardize_batch = Member("_standardize_batch", serves=_LOST)


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
        if isinstance(caller, _epoch_iterator.find()):
            return caller
        frame = frame and frame.f_back
    return None


def is_predicting(within: int) -> bool:
    """Whether data is being distributed for `predict`.

    Args:
        within: How many frames above the caller of this function to look.
    """
    frame = sys._getframe(1).f_back
    for _ in range(within):
        if frame is None:
            return False
        owner = frame.f_locals.get("self")
        if frame.f_code.co_name == "predict" and isinstance(owner, keras.Model):
            return True
        frame = frame.f_back
    return False


def begin_late(
    epoch_iterator: Any, no_data: Callable[[], Exception] | None
) -> None:
    """Has an `EpochIterator` begin its data when a step wants them.

    Keras looks at the data before the first step, and begins them anew at the
    end of each epoch. An iterator over several devices reads ahead from then
    on, which takes batches from Python code that gives each of them once.

    Args:
        epoch_iterator: An `EpochIterator` whose dataset has a method `later`;
            see `tfdp.strategy.CountedDataset`.
        no_data: Makes the error of data that end before the first step. Keras
            itself goes on without, or fails later and less legibly. `None`
            where this worker may have none.
    """
    steps = 0
    catch_stop_iteration = _catch_stop_iteration.of(epoch_iterator)

    @contextlib.contextmanager
    def catch_end_of_data() -> Iterator[None]:
        with catch_stop_iteration():
            try:
                yield
            except (StopIteration, tf.errors.OutOfRangeError):
                # Of several steps at once, some may have been made.
                is_none = not steps and epoch_iterator.steps_per_execution == 1
                if is_none and no_data is not None:
                    raise no_data() from None
                raise
        _distributed_dataset.of(epoch_iterator).compare()

    enumerate_later = _enumerate_iterator.of(epoch_iterator)

    def enumerate_iterator() -> Iterator[tuple[int, int, Any]]:
        if is_symbolic_build(within=2):
            yield 0, 0, iter(_distributed_dataset.of(epoch_iterator))
            return
        nonlocal steps
        is_first = True
        for begin, end, later in enumerate_later():
            yield begin, end, later.begun()
            # Keras comes back once it has made the step.
            steps += 1
            if is_first:
                _distributed_dataset.of(epoch_iterator).compare()
            is_first = False

    def later() -> Any:
        # With a number of steps, an epoch may begin where the last one ended.
        is_kept = epoch_iterator.steps_per_epoch is not None
        return _distributed_dataset.of(epoch_iterator).later(is_kept=is_kept)

    _get_iterator.replace(epoch_iterator, later)
    _enumerate_iterator.replace(epoch_iterator, enumerate_iterator)
    _catch_stop_iteration.replace(epoch_iterator, catch_end_of_data)


def take_length(epoch_iterator: Any, dataset: Any) -> None:
    """Has an `EpochIterator` go by the length of what was distributed.

    Args:
        epoch_iterator: Of a `tf.data.Dataset` or arrays.
        dataset: A `tfdp.strategy.CountedDataset`.
    """
    adapter = epoch_iterator.data_adapter
    if isinstance(adapter, _dataset_adapter.find()):
        _dataset.replace(adapter, dataset)
        _num_batches.replace(epoch_iterator, adapter.num_batches)


def forget_length(epoch_iterator: Any) -> None:
    """Has each epoch of an `EpochIterator` go on until its data end.

    Where data do not tell their length, Keras takes all epochs to be as long
    as the first. How long workers have files to read differs, where another
    epoch shares them out in another way.

    Args:
        epoch_iterator: An `EpochIterator`.
    """
    if epoch_iterator.steps_per_epoch is not None:
        return
    enumerate_epoch = _enumerate_iterator.of(epoch_iterator)

    def enumerate_anew() -> Iterator[tuple[int, int, Any]]:
        known = epoch_iterator.data_adapter.num_batches
        _num_batches.replace(epoch_iterator, known)
        return enumerate_epoch()

    _enumerate_iterator.replace(epoch_iterator, enumerate_anew)


def until_end(epoch_iterator: Any, expected: int | None) -> None:
    """Has each epoch of an `EpochIterator` go on until its data end.

    Whatever number of steps Keras knows, or was given, and without a warning.

    Args:
        epoch_iterator: An `EpochIterator`.
        expected: How many steps the progress bar shows; `None` where that is
            not known.
    """
    epoch_iterator.steps_per_epoch = None
    enumerate_epoch = _enumerate_iterator.of(epoch_iterator)
    reset = epoch_iterator.reset

    def enumerate_anew() -> Iterator[tuple[int, int, Any]]:
        _num_batches.replace(epoch_iterator, None)
        return enumerate_epoch()

    def reset_to_expected() -> None:
        reset()
        _num_batches.replace(epoch_iterator, expected)

    epoch_iterator.reset = reset_to_expected
    _enumerate_iterator.replace(epoch_iterator, enumerate_anew)
    _interrupted_warning.replace(epoch_iterator, lambda: None)


def py_dataset(epoch_iterator: Any) -> keras.utils.PyDataset | None:
    """Returns the `PyDataset` of an `EpochIterator`.

    Args:
        epoch_iterator: Of a `fit`, `evaluate` or `predict`; may be `None`.
    """
    adapter = getattr(epoch_iterator, "data_adapter", None)
    if not isinstance(adapter, _adapter.find()):
        return None
    return adapter.py_dataset


def grain_data(epoch_iterator: Any) -> Any:
    """Returns the dataset or loader of Grain's that an `EpochIterator` has.

    Args:
        epoch_iterator: Of a `fit`, `evaluate` or `predict`; may be `None`.

    Returns:
        The `grain.MapDataset`, `grain.IterDataset` or `grain.DataLoader`;
        `None` where the data are others.
    """
    adapter = getattr(epoch_iterator, "data_adapter", None)
    is_grain = type(adapter).__name__ == "GrainDatasetAdapter"
    return _dataset.of(adapter) if is_grain else None


def py_dataset_items(
    epoch_iterator: Any,
) -> tuple[Callable[[int], Any], bool]:
    """Returns how to get single batches of a `PyDataset`.

    Which then are computed by nobody else.

    Args:
        epoch_iterator: The `EpochIterator` that holds the `PyDataset`.

    Returns:
        A function of the place, and whether `fit` wants them shuffled.
    """
    adapter = epoch_iterator.data_adapter
    standardized = _standardize_batch.of(adapter)
    # It would be started at the begin of each epoch.
    adapter.enqueuer = None
    return (
        lambda place: standardized(adapter.py_dataset[place]),
        bool(adapter.shuffle),
    )


def py_dataset_in_order(
    epoch_iterator: Any,
    shuffle: Callable[[list[int]], None] | None = None,
    signature: Any = None,
) -> tf.data.Dataset | None:
    """Returns a `PyDataset` as a dataset that reads anew whenever it is begun.

    Keras's own has all iterators take from one queue, where they take each
    other's batches.

    Args:
        epoch_iterator: The `EpochIterator` that holds the `PyDataset`.
        shuffle: Shuffles the order of batches in place, where `fit` wants
            them shuffled. `None` for Keras's order.
        signature: Type of a batch. Defaults to that of the first ones.

    Returns:
        The dataset; or `None` where there is no `PyDataset`, or where the one
        that Keras makes reads anew already and no `signature` is given.
    """
    adapter = getattr(epoch_iterator, "data_adapter", None)
    if not isinstance(adapter, _adapter.find()):
        return None
    is_shuffled = shuffle is not None and adapter.shuffle
    if signature is None and adapter.enqueuer is None and not is_shuffled:
        return None
    if signature is None:
        signature = _output_signature.of(adapter)
    standardized = _standardize_batch.of(adapter)
    enqueuer = None if adapter.enqueuer is None else _enqueuer.find()
    # It would be started at the begin of each epoch, and drained at the end.
    adapter.enqueuer = None
    dataset = tf.data.Dataset.from_generator(
        lambda: map(standardized, _batches(adapter, shuffle, enqueuer)),
        output_signature=signature,
    )
    if enqueuer is None:
        return dataset.prefetch(tf.data.AUTOTUNE)
    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.private_threadpool_size = 1
    return dataset.with_options(options)


def _batches(
    adapter: Any,
    shuffle: Callable[[list[int]], None] | None,
    enqueuer: Any,
) -> Iterator[Any]:
    """Goes through a `PyDataset` once, by its own workers if it has any."""
    batches = _Order(adapter.py_dataset)
    if batches.indices is not None and adapter.shuffle:
        (shuffle or random.shuffle)(batches.indices)
    count = batches.num_batches
    places = itertools.count() if count is None else range(count)
    if enqueuer is None:
        yield from (batches[i] for i in places)
        return
    queue = enqueuer(
        batches,
        workers=batches.workers,
        use_multiprocessing=batches.use_multiprocessing,
        max_queue_size=batches.max_queue_size,
    )
    queue.start()
    try:
        # The places first: one batch more would be waited for for ever.
        for _, batch in zip(places, queue.get(), strict=False):
            yield batch
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
