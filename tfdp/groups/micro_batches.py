"""A batch in parts, and what was computed of them as one again."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfdp.upstream.keras import keras_masks


@dataclasses.dataclass(frozen=True)
class MicroBatch:
    """A part of a batch.

    A batch of fewer samples than parts leaves some with none. Kernels for
    convolution fail on no rows, and means of no rows are not numbers. Such a
    part is given a sample all the same, which does not count.

    Args:
        start: Its first row.
        size: Number of its samples.
        total: Number of those of the whole batch.
    """

    start: tf.Tensor
    size: tf.Tensor
    total: tf.Tensor

    def weighted(self, loss: tf.Tensor) -> tf.Tensor:
        """Returns what a loss, a mean over its samples, is of that of all."""
        dtype = keras.config.floatx()
        share = tf.math.divide_no_nan(
            tf.cast(self.size, dtype), tf.cast(self.total, dtype)
        )
        return tf.reduce_sum(tf.cast(loss, dtype)) * share

    @property
    def rows(self) -> tf.Tensor:
        """How many rows are computed; at least one, if the batch has any."""
        return tf.minimum(tf.maximum(self.size, 1), self.total)

    def of(self, tensors: Any) -> Any:
        """Returns its rows of a structure of tensors, and of their masks."""
        start = tf.minimum(self.start, tf.maximum(self.total - 1, 0))

        def taken(tensor: Any) -> Any:
            if tensor is None:
                return None
            return tensor[start : start + self.rows]

        part = keras.tree.map_structure(taken, tensors)
        masks = keras_masks.masks_of(tensors)
        keras_masks.attach(part, [taken(mask) for mask in masks])
        return part

    def counting(self, output: tf.Tensor) -> tf.Tensor:
        """Returns the rows of an output that count.

        Raises:
            InvalidArgumentError: When it runs, if there are not as many rows
                as samples.
        """
        right = tf.debugging.assert_equal(
            tf.shape(output)[0],
            self.rows,
            "What a Pipeline returns must have a row for each sample, to be "
            "put together from micro-batches. Use micro_batches=1, or have "
            "the stages keep the first axis.",
        )
        with tf.control_dependencies([] if right is None else [right]):
            return output[: self.size]


def parts_of(tensors: Any, count: int) -> Iterator[MicroBatch]:
    """Divides the batch of a structure of tensors; larger parts are first.

    Args:
        tensors: Tensors of one number of rows.
        count: Number of parts.

    Raises:
        ValueError: If one has no rows that can be told apart.
    """
    flat = [each for each in keras.tree.flatten(tensors) if each is not None]
    for each in flat:
        if not isinstance(each, tf.Tensor) or not each.shape.rank:
            raise ValueError(
                "Micro-batches are rows of dense tensors. Received: "
                f"{each!r}. Use micro_batches=1, or give the Pipeline dense "
                "tensors alone, with samples along the first axis."
            )
    total = tf.shape(flat[0])[0]
    # Rounded up, so that the first has a sample if any has.
    cuts = [-(-total * i // count) for i in range(count + 1)]
    for start, end in zip(cuts, cuts[1:], strict=False):
        yield MicroBatch(start, end - start, total)


def together(parts: Sequence[Any], batch: Any) -> Any:
    """Puts outputs of micro-batches together, and their masks.

    Args:
        parts: For each micro-batch a structure of tensors, with no other rows
            than those that count.
        batch: What they were computed of.
    """
    first, *_ = keras.tree.flatten(batch)

    def joined(*tensors: tf.Tensor) -> tf.Tensor:
        whole = tf.concat(tensors, 0)
        whole.set_shape([first.shape[0], *whole.shape[1:]])
        return whole

    whole = keras.tree.map_structure(joined, *parts)
    masks = zip(*map(keras_masks.masks_of, parts), strict=True)
    keras_masks.attach(
        whole, [None if m[0] is None else joined(*m) for m in masks]
    )
    return whole
