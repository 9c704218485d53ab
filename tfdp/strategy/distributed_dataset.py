"""A distributed dataset that knows how often it was begun."""

from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from tfdp.data import is_marked, micro_batch_of
from tfdp.machine import usable_cores
from tfdp.strategy.later_epoch import LaterEpoch, draw_for_unused
from tfdp.upstream.keras import keras_data, keras_fit
from tfdp.upstream.tensorflow import tf_datasets, tf_iterators


def own_memory(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Copies what a dataset gets from functions of Python's.

    TensorFlow takes the memory of their arrays for its own, and writes into it
    what it computes with them; arrays of the program's then change.

    Args:
        dataset: Any; one that calls no Python is returned as it is.
    """
    if not tf_datasets.calls_python(dataset):
        return dataset
    is_tuple = isinstance(dataset.element_spec, tuple)

    def copied(*element: Any) -> Any:
        copies = tf.nest.map_structure(_copied, element, expand_composites=True)
        return copies if is_tuple else copies[0]

    return dataset.map(copied)


def no_batches() -> ValueError:
    """Returns the error of data without any batch."""
    return ValueError(
        "A dataset must have at least one batch. Received: a dataset "
        "with none. Check that its source is not empty, and that "
        "`batch(..., drop_remainder=True)` does not drop the only, "
        "incomplete, batch."
    )


def prepared(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Returns a dataset as replicas read it.

    Args:
        dataset: Any.

    Raises:
        ValueError: If it has no batches.
    """
    dataset = own_memory(dataset)
    if int(dataset.cardinality()) == 0:
        raise no_batches()
    if _has_few_threads():
        # At the end of an iteration TensorFlow waits for the autotuner,
        # which on few threads may take as long again as the iteration.
        autotune_off = tf.data.Options()
        autotune_off.autotune.enabled = False
        dataset = dataset.with_options(autotune_off)
    return dataset


def _copied(tensor: Any) -> Any:
    if not isinstance(tensor, tf.Tensor) or tensor.dtype == tf.string:
        return tensor
    return tf.raw_ops.DeepCopy(x=tensor)


def _has_few_threads() -> bool:
    cores = usable_cores()
    threads = tf.config.threading.get_inter_op_parallelism_threads()
    return min(cores, threads or cores) <= 2


class CountedDataset(tf_datasets.DistributedDataset):
    """Passes everything on to a distributed dataset, and counts its epochs.

    A shuffling draws another order each time that it is begun. To take up
    training where it was left, a dataset must have been begun as often.

    Args:
        dataset: What TensorFlow's strategy has made.
        source: This worker's dataset that it was made from.
        given: What the program gave. Defaults to `source`.
        strategy: The tfdp strategy whose `request_clock` is read before a
            batch is asked for.
        order: The part of it that decides on the order of samples. Defaults
            to `source`.
        steps: Steps of an epoch, where TensorFlow does not know it.
        is_split: Whether `source` has this worker's samples alone; not those
            of all, of which it drops the others'.
        stride: How far from each other they are, among those of a micro-batch.

    Attributes:
        source: As given.
        given: As given.
        order: As given.
        is_split: As given.
        times_begun: How many iterators were made of it.
        ends_together: Whether all replicas have as many batches, so that no
            worker asks the others for them.
        compare: Called where all workers are, to compare what they have read.
    """

    def __init__(
        self,
        dataset: tf.distribute.DistributedDataset,
        source: tf.data.Dataset,
        given: tf.data.Dataset | None = None,
        *,
        strategy: Any,
        order: tf.data.Dataset | None = None,
        steps: int | None = None,
        is_split: bool = False,
        stride: int = 1,
    ) -> None:
        self._dataset = dataset
        self._strategy = strategy
        self.source = source
        self.given = source if given is None else given
        self.order = source if order is None else order
        self._steps = steps
        self.is_split = is_split
        self._stride = stride
        self.ends_together = False
        self.times_begun = 0
        self.compare: Callable[[], None] = lambda: None

    def __iter__(self) -> Iterator[Any]:
        """Begins an epoch; or says what a batch is like, if that is asked."""
        is_look = keras_fit.is_symbolic_build(within=3)
        if is_look:
            batch = _unknown_batch(self.source.element_spec)
            if batch is not None:
                return iter([batch])
        if tf.executing_eagerly():
            self.compare()
        self.times_begun += 1
        return _first_of(self.begun()) if is_look else self.begun()

    def begun(self) -> Iterator[Any]:
        """Returns an iterator, which is not counted."""
        draw_for_unused()
        self._say_stride()
        iterator = iter(self._dataset)
        if self.ends_together:
            iterator = tf_iterators.asking_nobody(iterator)
        announce = self._strategy.request_clock
        if announce is None:
            return iterator
        return tf_iterators.announcing(iterator, announce)

    def _say_stride(self) -> None:
        stride = self._strategy.stride
        if stride is None:
            return
        fit = keras_fit.fit_under_way()
        # Validation comes between the steps of training.
        if fit is None or keras_data.distributed_dataset(fit) is self:
            stride.assign(self._stride)

    def end_together(self) -> None:
        """Has workers not ask each other, before each step, whether to go on.

        For data of which all replicas have as many batches.
        """
        tf_datasets.end_together(self._dataset)
        self.ends_together = True

    def later(self, *, is_kept: bool = False) -> LaterEpoch:
        """Returns an epoch that begins, for the devices, when it is used.

        Args:
            is_kept: Whether it is used although others begin before.
        """
        return LaterEpoch(self, is_kept=is_kept)

    @property
    def micro_batch(self) -> int | None:
        """Samples of a full step, over all workers; `None` if not known."""
        if self.is_split and not is_marked(self.given):
            # A worker's own batches, made by itself.
            return None
        return micro_batch_of(self.given)

    @property
    def element_spec(self) -> Any:
        """Type of a batch."""
        return self._dataset.element_spec

    @property
    def cardinality(self) -> Any:
        """Number of batches, as TensorFlow tells it."""
        return self._dataset.cardinality if self._steps is None else self._steps

    def reduce(
        self, initial_state: Any, reduce_func: Callable[..., Any]
    ) -> Any:
        """Reduces over an epoch, as TensorFlow does."""
        draw_for_unused()
        self.times_begun += 1
        return self._dataset.reduce(initial_state, reduce_func)

    def __getattr__(self, name: str) -> Any:
        """Looks up what is not said here."""
        if name == "_dataset":
            raise AttributeError(name)
        return getattr(self._dataset, name)


def _first_of(batches: Iterator[Any]) -> Iterator[Any]:
    for batch in batches:
        yield batch
        return
    raise no_batches()


def _unknown_batch(spec: Any) -> Any:
    """Returns what Keras asks a batch for, or `None` if it is not known."""
    leaves = [s for s in tf.nest.flatten(spec) if _is_tensors(s)]
    if any(leaf.shape.rank is None for leaf in leaves):
        return None
    return tf.nest.map_structure(_unknown_samples, spec)


def _unknown_samples(spec: Any) -> tf.TensorSpec | None:
    if not _is_tensors(spec):
        return None
    # How many samples there are differs between batches and replicas.
    samples = [None] * min(spec.shape.rank, 1)
    return tf.TensorSpec([*samples, *spec.shape[1:]], spec.dtype)


def _is_tensors(spec: Any) -> bool:
    # As opposed to nothing, or to something that may be missing.
    return hasattr(spec, "shape") and hasattr(spec, "dtype")
