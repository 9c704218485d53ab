"""Batches of single replicas, made of what a worker has of the samples."""

from typing import NamedTuple

import tensorflow as tf

from tfdp.data.shares import Share


class Split(NamedTuple):
    """What a worker is given of some data.

    Attributes:
        dataset: Batches of single replicas, one after the other.
        order: The part of it that decides on the order of samples.
        steps: Steps of an epoch; negative where that is unknown or without
            end, as TensorFlow has it.
    """

    dataset: tf.data.Dataset
    order: tf.data.Dataset
    steps: int


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
    def parts(*batch: object) -> tf.data.Dataset:
        whole = tf.data.Dataset.from_tensors(batch if is_tuple else batch[0])
        return whole.rebatch(sizes).take(len(sizes))

    split = dataset.flat_map(parts)
    if steps < 0 or not _may_be_empty(split):
        ends = tf.data.UNKNOWN_CARDINALITY if steps >= 0 else steps
        return Split(split.prefetch(share.replicas), dataset, ends)
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
    return Split(padded, dataset, steps)


def _may_be_empty(dataset: tf.data.Dataset) -> bool:
    return all(
        isinstance(spec, tf.TensorSpec) and spec.shape.rank
        for spec in tf.nest.flatten(dataset.element_spec)
    )


def _no_rows(spec: tf.TensorSpec) -> tf.Tensor:
    return tf.zeros([0, *(size or 1 for size in spec.shape[1:])], spec.dtype)
