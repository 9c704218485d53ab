"""The samples of batches that are wanted, where the mark of a pipeline is."""

import itertools
import threading
from typing import Any

import numpy as np
import tensorflow as tf

from tfdp.data.index_order import length
from tfdp.data.mark import check_outer, marked_before
from tfdp.upstream.tensorflow import tf_datasets

_BLOCKS = "_tfdp_blocks"
_numbers = itertools.count()
_LONG = 1.0


class Blocks:
    """Lets samples of wanted batches through a mark.

    Batch i has the samples from i times `size` on, `size` of them. A batch is
    wanted when the one before was read; what follows the mark then waits.

    Attributes:
        samples: How many there are; negative, as TensorFlow has it, where that
            is unknown or without end.
        size: Samples of a full batch; set when it is known.
        drops_remainder: Whether a last, smaller batch is left out.
    """

    def __init__(self) -> None:
        self.samples = tf.data.UNKNOWN_CARDINALITY
        self.size = 0
        self.drops_remainder = False
        self._changed = threading.Condition()
        self._wanted: int | None = None
        self._is_open = False
        self._begin, self._end, self._seen = (_Number() for _ in range(3))
        self.let_all_through()

    def through(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """Returns the samples that are let through.

        Args:
            dataset: All samples.
        """
        do_not_convert = tf.autograph.experimental.do_not_convert

        @do_not_convert
        def goes_on(place: tf.Tensor, *_: Any) -> tf.Tensor:
            self._seen.set(place + 1)
            return (
                tf.cond(
                    place < self._end.get(),
                    self._begin.get,
                    lambda: self._next(place),
                )
                >= 0
            )

        @do_not_convert
        def is_wanted(place: tf.Tensor, *_: Any) -> tf.Tensor:
            return place >= self._begin.get()

        @do_not_convert
        def sample(_: tf.Tensor, element: Any) -> Any:
            return element

        chosen = (
            dataset.enumerate()
            .take_while(goes_on)
            .filter(is_wanted)
            .map(sample)
        )
        vars(chosen)[_BLOCKS] = self
        self.samples = length(dataset) or int(dataset.cardinality())
        return chosen

    def open(self) -> None:
        """Begins with the first sample, and waits for what is wanted."""
        self._set(0, 0)
        with self._changed:
            self._wanted, self._is_open = None, True

    def end(self) -> None:
        """Lets no more samples through, and ends what follows."""
        self._set(0, 0)
        with self._changed:
            self._wanted, self._is_open = None, False
            self._changed.notify_all()

    def let_all_through(self) -> None:
        """Lets all samples through, for those that go by no numbers."""
        self._set(0, np.iinfo(np.int64).max)

    def want(self, number: int) -> None:
        """Lets the samples of a batch through, which none of has passed."""
        with self._changed:
            self._wanted = number
            self._changed.notify_all()

    @property
    def total(self) -> int | None:
        """How many batches there are, where that is known before."""
        return None if self.samples < 0 else self.batches(self.samples)

    def batches(self, samples: int) -> int:
        """Returns how many batches there are of so many samples."""
        full, rest = divmod(samples, self.size)
        return full + (rest > 0 and not self.drops_remainder)

    def batches_seen(self) -> int:
        """How many batches there are, once all samples have passed."""
        return self.batches(int(self._seen.get()))

    def _set(self, begin: int, end: int) -> None:
        for number, value in ((self._begin, begin), (self._end, end)):
            number.set(tf.constant(value, tf.int64))

    def _next(self, place: tf.Tensor) -> tf.Tensor:
        begin, end = tf.numpy_function(
            self._wait, [place], [tf.int64, tf.int64], stateful=True
        )
        begin.set_shape([])
        self._begin.set(begin)
        self._end.set(end)
        return begin

    def _wait(self, _: Any) -> tuple[np.int64, np.int64]:
        def is_settled() -> bool:
            return self._wanted is not None or not self._is_open

        with self._changed:
            while not self._changed.wait_for(is_settled, _LONG):
                if not threading.main_thread().is_alive():
                    # TensorFlow would wait for this thread, at the very end.
                    break
            wanted, self._wanted = self._wanted, None
        if wanted is None:
            return np.int64(-1), np.int64(0)
        begin = wanted * self.size
        return np.int64(begin), np.int64(begin + self.size)


def in_blocks(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Lets through a mark what this worker wants, and remembers that.

    Args:
        dataset: The samples of all workers.
    """
    check_outer()
    if any(map(blocks_of, tf_datasets.through(dataset))):
        raise marked_before()
    return Blocks().through(dataset)


def blocks_of(dataset: tf.data.Dataset) -> Blocks | None:
    """Returns what chooses samples at this very place, if it is a mark."""
    return vars(dataset).get(_BLOCKS)


class _Number:
    """A number of the pipeline's; of no strategy, wherever it is made."""

    def __init__(self) -> None:
        with tf.init_scope(), tf.device("CPU:0"):
            self._handle = tf.raw_ops.VarHandleOp(
                dtype=tf.int64,
                shape=[],
                shared_name=f"tfdp_block_{next(_numbers)}",
            )
        self.set(tf.zeros([], tf.int64))

    def get(self) -> tf.Tensor:
        return tf.raw_ops.ReadVariableOp(resource=self._handle, dtype=tf.int64)

    def set(self, value: tf.Tensor) -> None:
        tf.raw_ops.AssignVariableOp(resource=self._handle, value=value)
