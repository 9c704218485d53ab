"""Sums over replicas, and the means that are made of them."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfdp.settings import DEFAULT_PACK
from tfdp.step import Gradient, at_least_float32, on_values
from tfdp.synchronization.compression import compressed, decompressed
from tfdp.synchronization.travel import carried, ready_first, sums_by

_NEXT_TO_NOTHING = 1e-20


def num_replicas() -> int:
    """Returns the number of replicas, in replica context."""
    return tf.distribute.get_replica_context().num_replicas_in_sync


def pack_size() -> int:
    """Returns how many bytes a pack is to have, in replica context."""
    strategy = tf.distribute.get_replica_context().strategy
    return getattr(strategy, "bytes_per_pack", DEFAULT_PACK)


def all_reduced(tensors: Sequence[Gradient]) -> list[Gradient]:
    """Adds up tensors over all replicas, each type in packs of its own."""
    totals = list(tensors)
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return totals
    # The name tells these collectives from Keras's in a profile.
    carrier = getattr(context.strategy, "carrier", None)
    with tf.name_scope("tfdp_all_reduce"):
        gone = carried(tensors) if carrier is not None else []
        if carrier is not None and gone:
            sums = sums_by(carrier, [tensors[i] for i in gone])
            for place, total in zip(gone, sums, strict=True):
                totals[place] = total
        left = [i for i in range(len(tensors)) if i not in set(gone)]
        for dtype in dict.fromkeys(tensors[i].dtype for i in left):
            alike = [i for i in left if tensors[i].dtype == dtype]
            order = ready_first([tensors[i] for i in alike], pack_size())
            places = [alike[i] for i in order]
            sums = context.all_reduce(
                tf.distribute.ReduceOp.SUM, [tensors[i] for i in places]
            )
            for place, total in zip(places, sums, strict=True):
                totals[place] = total
    return totals


def all_reduced_compressed(
    gradients: Sequence[Gradient],
    count: tf.Tensor | None,
    scale: tf.Tensor | None,
    compression: str,
    owners: Sequence[str] | None = None,
) -> list[Gradient]:
    """Returns the means, or the sums where there is no count."""
    factor = tf.constant(1.0)
    if count is not None:
        factor = tf.math.divide_no_nan(factor, count)
    if scale is not None:
        factor /= scale
    parts = [compressed(each, factor, compression) for each in gradients]
    if owners is None:
        totals = all_reduced(parts)
    else:
        totals = sums_at_owners(parts, owners)
    sums = [
        decompressed(total, gradient.dtype, compression)
        for total, gradient in zip(totals, gradients, strict=True)
    ]
    if scale is None:
        return sums
    return [
        on_values(lambda v: v * tf.cast(scale, v.dtype), each) for each in sums
    ]


def sums_at_owners(
    gradients: Sequence[Gradient],
    devices: Sequence[str],
    count: tf.Tensor | None = None,
) -> list[Gradient]:
    """Adds up gradients over replicas, in replica context, without copies.

    Args:
        gradients: Gradients of this replica.
        devices: For each, where to add it up.
        count: Scalar, the same on all replicas, to divide the sums by.

    Returns:
        The sums, where they are; on every replica the same tensors.
    """

    def add(
        strategy: tf.distribute.Strategy, given: list[Any], counts: Any
    ) -> list[Any]:
        first, *_ = strategy.experimental_local_results(counts)
        sums = []
        for gradient, device in zip(given, devices, strict=True):
            with tf.device(device), tf.name_scope("tfdp_sum"):
                parts = strategy.experimental_local_results(gradient)
                sums.append(divided(_sum_of(parts), first))
        return sums

    context = tf.distribute.get_replica_context()
    return context.merge_call(add, args=(list(gradients), count))


def _sum_of(parts: Sequence[Gradient]) -> Gradient:
    if not isinstance(parts[0], tf.IndexedSlices):
        return tf.add_n(list(parts))
    return tf.IndexedSlices(
        tf.concat([part.values for part in parts], 0),
        tf.concat([part.indices for part in parts], 0),
        parts[0].dense_shape,
    )


def divided(total: Gradient, count: tf.Tensor | None) -> Gradient:
    """Divides a sum by a scalar, if there is one; by zero, it is zero."""
    if count is None:
        return total
    return on_values(
        lambda v: tf.math.divide_no_nan(v, tf.cast(count, v.dtype)), total
    )


def mean_by(
    weight: tf.Tensor, values: Sequence[tf.Tensor | tf.Variable]
) -> list[tf.Tensor]:
    """Returns the means of values over replicas, in replica context.

    Args:
        weight: Scalar float32; how much this replica's values weigh. Where
            those of all are zero, they weigh the same.
        values: Values of this replica, in any floating format.

    Returns:
        The means, in float32 at least.
    """
    weight = tf.maximum(weight, _NEXT_TO_NOTHING)
    (total,) = all_reduced([weight])
    share = weight / total
    parts = [at_least_float32(tf.convert_to_tensor(each)) for each in values]
    return all_reduced([part * tf.cast(share, part.dtype) for part in parts])
