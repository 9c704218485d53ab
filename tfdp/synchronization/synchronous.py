"""The same update on every replica, by the mean gradient over all samples."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfdp.step import Gradient, deduplicated
from tfdp.synchronization.gradient_statistics import moments
from tfdp.synchronization.inner_optimizer import update
from tfdp.synchronization.reduction import (
    all_reduced,
    all_reduced_compressed,
    divided,
    num_replicas,
    pack_size,
    sums_at_owners,
)
from tfdp.synchronization.synchronization import Reduced, Synchronization
from tfdp.synchronization.travel import Packed


@keras.saving.register_keras_serializable(package="tfdp")
class Synchronous(Synchronization):
    """Updates every replica with the mean gradient over all samples.

    One all-reduce carries the gradients and the weight behind them, by default
    their samples; then a copy of the user's optimizer makes its own update.
    Where gradients are compressed, an all-reduce of the weights goes before,
    so that what is rounded is each replica's part of the mean.
    """

    def reduce(
        self,
        gradients: Sequence[Gradient],
        weight: tf.Tensor | None,
        scatter: tf.Tensor | None = None,
        scale: tf.Tensor | None = None,
    ) -> Reduced:
        """Averages gradients by the weights of all replicas."""
        numbers = [each for each in (scatter, weight) if each is not None]
        packed = self.packed(gradients)
        gradients = packed.tensors
        owners = self.owners(gradients) if num_replicas() > 1 else None
        if self.compression and num_replicas() > 1:
            numbers = all_reduced(numbers)
            count = None if weight is None else numbers[-1]
            means = all_reduced_compressed(
                gradients, count, scale, self.compression, owners
            )
        elif owners is not None:
            numbers = all_reduced(numbers)
            count = None if weight is None else numbers[-1]
            means = sums_at_owners(gradients, owners, count)
        else:
            # Tensors of one type share a pack.
            dtype = gradients[0].dtype
            numbers = [tf.cast(each, dtype) for each in numbers]
            sums = all_reduced([*gradients, *numbers])
            numbers = sums[len(gradients) :]
            count = None if weight is None else numbers[-1]
            means = [divided(each, count) for each in sums[: len(gradients)]]
        means = [deduplicated(mean) for mean in packed.unpacked(means)]
        if scatter is None or count is None:
            return Reduced(means)
        return Reduced(means, moments(numbers[0], count, means))

    def apply(
        self, reduced: Reduced, variables: Sequence[keras.Variable]
    ) -> None:
        """Makes the inner optimizer's update."""
        if self.wants_moments:
            self.inner_optimizer.observe(reduced.moments)
        update(self.inner_optimizer, reduced.gradients, variables)

    def packed(self, gradients: Sequence[Gradient]) -> Packed:
        """Puts together what replicas add up and divide as one.

        Args:
            gradients: This replica's.

        Returns:
            The packs; on one replica, with one gradient in each.
        """
        return Packed(gradients, pack_size() if num_replicas() > 1 else 0)

    def owners(self, gradients: Sequence[Gradient]) -> Sequence[str] | None:
        """Returns where each gradient is added up, in replica context.

        Args:
            gradients: This replica's.

        Returns:
            A device for each, where all replicas find the sum; `None` where
            all of them get it by an all-reduce.
        """
        strategy = tf.distribute.get_replica_context().strategy
        devices = getattr(strategy, "sums_at", ())
        if not devices:
            return None
        return [devices[i % len(devices)] for i in range(len(gradients))]


def checked_synchronization(given: Any) -> Synchronization:
    """Returns a way to synchronise; that of all replicas at once for `None`.

    Args:
        given: What `DistributedOptimizer` was given, or its configuration.

    Raises:
        TypeError: If it is none.
    """
    if given is None:
        return Synchronous()
    if isinstance(given, dict):
        given = keras.saving.deserialize_keras_object(given)
    if isinstance(given, Synchronization):
        return given
    raise TypeError(
        "`synchronization` must be a way to synchronise replicas. Received: "
        f"synchronization={given!r}. Pass `tfdp.LocalSGD(sync_every=8)`, for "
        "example, or leave it out."
    )
