"""Sparse and ragged tensors on their way through a distributed dataset.

A batch of fewer samples than replicas leaves some with none. TensorFlow cannot
read a sparse tensor of no rows out of a dataset, nor a ragged one of vectors.
One that is ragged of scalars it can: a batch travels as such, and is what it
was again once it is on its replica. So it is with what has no rows at all: one
number for a whole batch, and `None`, which TensorFlow cannot share out.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf


class SparseRows(NamedTuple):
    """What a batch of sparse samples consists of.

    Args:
        indices: Ragged int64, of shape `(samples, None)`: where in its sample
            each value is, one after another.
        values: Ragged, of shape `(samples, None)`.
        shape_of: Of shape `(samples, 0, ...)`: nothing, in the shape of the
            samples.
    """

    indices: tf.RaggedTensor
    values: tf.RaggedTensor
    shape_of: tf.Tensor


class RaggedRows(NamedTuple):
    """What a batch of samples consists of that are ragged of vectors.

    Args:
        scalars: Ragged, with the numbers of the vectors one after another.
        shape_of: Of shape `(samples, 0, ...)`: nothing, in their shape.
    """

    scalars: tf.RaggedTensor
    shape_of: tf.Tensor


class OneForAll(NamedTuple):
    """What a batch consists of beside its samples: one number for all.

    Args:
        rows: The number, once for each sample.
    """

    rows: tf.Tensor


class Nothing(NamedTuple):
    """What stands for `None`."""


def as_rows(
    dataset: tf.data.Dataset, *, has_empty: bool = True
) -> tf.data.Dataset:
    """Returns a dataset of tensors that may have no rows.

    Args:
        dataset: A batched dataset. Its sparse tensors and those that are
            ragged of vectors become `SparseRows` and `RaggedRows`, scalars and
            `None` become `OneForAll` and `Nothing`; one without any is
            returned as it is.
        has_empty: Whether replicas may be left without samples. Otherwise only
            what has no rows is looked for. Defaults to `True`.
    """
    spec = dataset.element_spec
    specs = tf.nest.flatten(spec)
    has_samples = any(map(_has_rows, specs))
    if not has_samples or not any(
        has_empty and _is_batch(each) or not _has_rows(each) for each in specs
    ):
        return dataset

    @tf.autograph.experimental.do_not_convert
    def rows(*element: Any) -> Any:
        count = next(filter(_has_rows, tf.nest.flatten(element)))
        made = tf.nest.map_structure(
            lambda leaf: _rows(leaf) if _has_rows(leaf) else _all(leaf, count),
            element,
        )
        return made if isinstance(spec, tuple) else made[0]

    return dataset.map(rows)


def with_tensors(structure: Any) -> Any:
    """Returns what a replica is given, the tensors as they were.

    Args:
        structure: Any structure; one without rows is returned as it is.
    """
    if isinstance(structure, SparseRows):
        return _sparse_tensor(structure)
    if isinstance(structure, RaggedRows):
        return _ragged_tensor(structure)
    if isinstance(structure, OneForAll):
        # Where there are no samples, there is no number either.
        none = tf.zeros([1], structure.rows.dtype)
        return tf.concat([structure.rows, none], 0)[0]
    if isinstance(structure, Nothing):
        return None
    if isinstance(structure, dict):
        keys, values = list(structure), list(structure.values())
    elif isinstance(structure, (list, tuple)):
        keys, values = None, list(structure)
    else:
        return structure
    made = [with_tensors(each) for each in values]
    if all(new is old for new, old in zip(made, values, strict=True)):
        return structure
    make: Callable[..., Any] = type(structure)
    if keys is not None:
        return make(zip(keys, made, strict=True))
    return make(*made) if hasattr(structure, "_fields") else make(made)


def _has_rows(each: Any) -> bool:
    """Whether a tensor, or the type of one, has a row for each sample."""
    return hasattr(each, "dtype") and each.shape.rank != 0


def _all(leaf: Any, samples: Any) -> OneForAll | Nothing:
    """What stands for a leaf without rows beside samples."""
    if leaf is None:
        return Nothing()
    if isinstance(samples, tf.RaggedTensor):
        count = samples.nrows()
    elif isinstance(samples, tf.SparseTensor):
        count = samples.dense_shape[0]
    else:
        count = tf.shape(samples)[0]
    return OneForAll(tf.fill([count], leaf))


def _is_batch(each: Any) -> bool:
    """Whether a tensor, or the type of one, is to travel as rows."""
    if isinstance(each, (tf.RaggedTensor, tf.RaggedTensorSpec)):
        rank = each.shape.rank
        return rank is not None and rank > 1 + each.ragged_rank > 1
    is_sparse = isinstance(each, (tf.SparseTensor, tf.SparseTensorSpec))
    return is_sparse and bool(each.shape.rank)


def _rows(tensor: Any) -> Any:
    if not _is_batch(tensor):
        return tensor
    if isinstance(tensor, tf.RaggedTensor):
        flat, splits = tensor.flat_values, tensor.nested_row_splits
        size = tf.reduce_prod(tf.shape(flat, splits[-1].dtype)[1:])
        scalars = tf.RaggedTensor.from_nested_row_splits(
            tf.reshape(flat, [-1]), [*splits[:-1], splits[-1] * size]
        )
        vector = tf.shape(flat, tf.int64)[1:]
        return RaggedRows(
            scalars, _shape_of(tensor.nrows(), vector, flat.shape[1:])
        )
    tensor = tf.sparse.reorder(tensor)
    samples, sample = tensor.dense_shape[0], tensor.dense_shape[1:]
    values = tf.RaggedTensor.from_value_rowids(
        tensor.values, tensor.indices[:, 0], nrows=samples
    )
    indices = tf.RaggedTensor.from_row_splits(
        tf.reshape(tensor.indices[:, 1:], [-1]),
        values.row_splits * (tensor.shape.rank - 1),
    )
    return SparseRows(
        indices, values, _shape_of(samples, sample, tensor.shape[1:])
    )


def _shape_of(samples: Any, sample: Any, known: tf.TensorShape) -> tf.Tensor:
    shape = tf.concat([[tf.cast(samples, tf.int64), 0], sample], 0)
    nothing = tf.zeros(shape, tf.bool)
    nothing.set_shape([None, 0, *known])
    return nothing


def _shape_in(shape_of: tf.Tensor) -> tf.Tensor:
    known = shape_of.shape[2:]
    if known.is_fully_defined():
        return tf.constant(known.as_list(), tf.int64, (known.rank,))
    return tf.shape(shape_of, tf.int64)[2:]


def _ragged_tensor(rows: RaggedRows) -> tf.RaggedTensor:
    vector = _shape_in(rows.shape_of)
    *outer, inner = rows.scalars.nested_row_splits
    size = tf.maximum(tf.reduce_prod(vector), 1)
    splits = [*outer, inner // tf.cast(size, inner.dtype)]
    shape = tf.concat([tf.cast(splits[-1][-1:], tf.int64), vector], 0)
    flat = tf.reshape(rows.scalars.flat_values, shape)
    flat.set_shape([None, *rows.shape_of.shape[2:]])
    return tf.RaggedTensor.from_nested_row_splits(flat, splits)


def _sparse_tensor(rows: SparseRows) -> tf.SparseTensor:
    numbers = rows.values.value_rowids()
    rank = rows.shape_of.shape.rank - 2
    places = tf.reshape(rows.indices.flat_values, [tf.size(numbers), rank])
    sample = _shape_in(rows.shape_of)
    return tf.SparseTensor(
        tf.concat([numbers[:, tf.newaxis], places], 1),
        rows.values.flat_values,
        tf.concat([[rows.values.nrows()], sample], 0),
    )
