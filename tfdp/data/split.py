"""Batches of single replicas, made of what a worker has of the samples."""

from typing import Any, NamedTuple

import tensorflow as tf

from tfdp.data.items import rows
from tfdp.data.shares import Share


class Split(NamedTuple):
    """What a worker is given of some data.

    Attributes:
        dataset: Batches of single replicas, one after the other.
        order: The part of it that decides on the order of samples.
        steps: Steps of an epoch; negative where that is unknown or without
            end, as TensorFlow has it.
        stride: How far from each other this worker's samples are, among those
            of a micro-batch.
    """

    dataset: tf.data.Dataset
    order: tf.data.Dataset
    steps: int
    stride: int = 1


def by_replica(
    dataset: tf.data.Dataset, micro_batch: int, share: Share, steps: int
) -> Split:
    """Splits batches of a worker's own samples over steps and replicas.

    Args:
        dataset: Batches of `micro_batch` samples of this worker, one of every
            `share.num_workers`; a smaller one at the end.
        micro_batch: Samples of a micro-batch, over all workers.
        share: What this worker is given.
        steps: How many steps an epoch has on all workers, so that this one has
            as many, at its end without samples if need be; negative where
            that is not known.
    """
    sizes = share.sizes(micro_batch)
    is_tuple = isinstance(dataset.element_spec, tuple)

    # It would warn of what TensorFlow imports in there.
    @tf.autograph.experimental.do_not_convert
    def parts(*batch: Any) -> tf.data.Dataset:
        whole = batch if is_tuple else batch[0]
        leaves = tf.nest.flatten(whole)
        own = tuple(leaf for leaf in leaves if _has_rows(leaf))

        @tf.autograph.experimental.do_not_convert
        def with_others(*rows: Any) -> Any:
            left = iter(rows)
            return tf.nest.map_structure(
                lambda leaf: next(left) if _has_rows(leaf) else leaf, whole
            )

        split = tf.data.Dataset.from_tensors(own).rebatch(sizes)
        return split.take(len(sizes)).map(with_others)

    split = dataset.flat_map(parts)
    if steps < 0 or not _may_be_empty(split):
        ends = tf.data.UNKNOWN_CARDINALITY if steps >= 0 else steps
        split = split.prefetch(share.replicas)
        return Split(split, dataset, ends, share.num_workers)
    count = steps * share.replicas
    nothing = tf.data.Dataset.from_tensors(
        tf.nest.map_structure(_no_rows, split.element_spec)
    )
    padded = (
        split.concatenate(nothing.repeat(count))
        .take(count)
        .apply(tf.data.experimental.assert_cardinality(count))
        .prefetch(share.replicas)
    )
    return Split(padded, dataset, steps, share.num_workers)


def by_rows(dataset: tf.data.Dataset, share: Share, steps: int | None) -> Split:
    """Splits each batch of this worker's over its replicas.

    Args:
        dataset: Batches that are this worker's share of a micro-batch.
        share: What this worker is given.
        steps: How many an epoch has; `None` where that is not known.
    """
    ends = tf.data.UNKNOWN_CARDINALITY if steps is None else steps
    is_tuple = isinstance(dataset.element_spec, tuple)
    count = share.replicas

    # Nothing is in there for AutoGraph, which takes long to see that.
    @tf.autograph.experimental.do_not_convert
    def parts(*batch: Any) -> tf.data.Dataset:
        whole = batch if is_tuple else batch[0]
        leaves = tf.nest.flatten(whole)
        total = next(_num_rows(leaf) for leaf in leaves if _has_rows(leaf))

        @tf.autograph.experimental.do_not_convert
        def part(replica: tf.Tensor) -> Any:
            size, larger = total // count, total % count
            begin = replica * size + tf.minimum(replica, larger)
            end = begin + size + tf.cast(replica < larger, tf.int64)
            return tf.nest.map_structure(
                lambda leaf: (
                    rows(leaf, begin, end) if _has_rows(leaf) else leaf
                ),
                whole,
            )

        return tf.data.Dataset.range(count).map(part)

    split = dataset if count == 1 else dataset.flat_map(parts)
    return Split(split.prefetch(count), dataset, ends)


def _has_rows(leaf: Any) -> bool:
    kinds = (tf.Tensor, tf.RaggedTensor, tf.SparseTensor)
    return isinstance(leaf, kinds) and leaf.shape.rank != 0


def _num_rows(leaf: Any) -> tf.Tensor:
    if isinstance(leaf, tf.RaggedTensor):
        return tf.cast(leaf.nrows(), tf.int64)
    return tf.shape(leaf, tf.int64)[0]


def _may_be_empty(dataset: tf.data.Dataset) -> bool:
    return all(
        _is_nothing(spec) or isinstance(spec, tf.TensorSpec) and spec.shape.rank
        for spec in tf.nest.flatten(dataset.element_spec)
    )


def _is_nothing(spec: Any) -> bool:
    # The type of `None`, which has no public name.
    return not hasattr(spec, "dtype")


def _no_rows(spec: Any) -> tf.Tensor | None:
    if _is_nothing(spec):
        return None
    return tf.zeros([0, *(size or 1 for size in spec.shape[1:])], spec.dtype)
