"""Sums of gradients that wait on each replica for the end of a cycle."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf


class Accumulator:
    """Adds up weighted gradients and their samples, without communication.

    Every replica holds sums of its own, in float32 whatever the variables'
    type. Read from outside, TensorFlow adds the replicas up.

    Args:
        variables: The variables whose gradients are added up. Create the
            accumulator in the scope of the strategy that they live in.
    """

    def __init__(self, variables: Sequence[keras.Variable]) -> None:
        with tf.init_scope():
            self._sums = [_replica_local(v.shape) for v in variables]
            self._samples = _replica_local(())

    def add(
        self,
        gradients: Sequence[tf.Tensor],
        places: Sequence[int],
        samples: tf.Tensor,
    ) -> None:
        """Adds one micro-batch, in replica context.

        Args:
            gradients: Gradients of this replica, weighted by its samples.
            places: For each gradient, the place of its variable in
                `variables`.
            samples: Scalar float32; samples behind these gradients.
        """
        for gradient, place in zip(gradients, places, strict=True):
            self._sums[place].assign_add(tf.cast(gradient, tf.float32))
        self._samples.assign_add(samples)

    def take(self, places: Sequence[int]) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Returns this replica's sums and samples, and starts from zero.

        Args:
            places: Which gradients to return.

        Returns:
            The sums, in the order of `places`, and the samples behind them.
        """
        held = [*(self._sums[place] for place in places), self._samples]
        totals = [tf.identity(variable.read_value()) for variable in held]
        with tf.control_dependencies(totals):
            for variable in held:
                variable.assign(tf.zeros_like(variable))
        return totals[:-1], totals[-1]

    def state(self) -> dict[str, np.ndarray]:
        """Returns the sums over all replicas, by name; a collective."""
        held = [*self._sums, self._samples]
        return {f"accumulated_{i}": v.numpy() for i, v in enumerate(held)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continues from what `state` returned, on any number of replicas.

        Args:
            state: Sums by name; empty for none.
        """
        for i, variable in enumerate([*self._sums, self._samples]):
            # TensorFlow gives each replica its part of the sum.
            variable.assign(
                state[f"accumulated_{i}"] if state else tf.zeros_like(variable)
            )


def _replica_local(shape: Sequence[int]) -> tf.Variable:
    return tf.Variable(
        tf.zeros(shape),
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.SUM,
    )
