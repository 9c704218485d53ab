"""Sums of gradients that wait on each replica for the end of a cycle."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf


class Accumulator:
    """Adds up weighted gradients and their weights, without communication.

    Every replica holds sums of its own, in float32 for variables of fewer
    digits. Read from outside, TensorFlow adds the replicas up.

    Args:
        variables: The variables whose gradients are added up. Create the
            accumulator in the scope of the strategy that they live in.
    """

    def __init__(self, variables: Sequence[keras.Variable]) -> None:
        with tf.init_scope():
            self._sums = [
                _replica_local(
                    v.shape,
                    tf.float64 if v.dtype == "float64" else tf.float32,
                )
                for v in variables
            ]
            self._weight = _replica_local((), tf.float32)

    @property
    def variables(self) -> list[tf.Variable]:
        """The sums, and the weight behind them."""
        return [*self._sums, self._weight]

    def add(
        self,
        gradients: Sequence[tf.Tensor],
        places: Sequence[int],
        weight: tf.Tensor,
    ) -> None:
        """Adds one micro-batch, in replica context.

        Args:
            gradients: Gradients of this replica, weighted.
            places: For each gradient, the place of its variable in
                `variables`.
            weight: Scalar float32; weight of these gradients, by default the
                samples behind them.
        """
        for gradient, place in zip(gradients, places, strict=True):
            total = self._sums[place]
            total.assign_add(tf.cast(gradient, total.dtype))
        self._weight.assign_add(weight)

    def take(self, places: Sequence[int]) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Returns this replica's sums and weight, and starts from zero.

        Args:
            places: Which gradients to return.

        Returns:
            The sums, in the order of `places`, and the weight behind them.
        """
        held = [*(self._sums[place] for place in places), self._weight]
        totals = [tf.identity(variable.read_value()) for variable in held]
        with tf.control_dependencies(totals):
            for variable in held:
                variable.assign(tf.zeros_like(variable))
        return totals[:-1], totals[-1]

    def state(self) -> dict[str, np.ndarray]:
        """Returns the sums over all replicas, by name; a collective."""
        return {
            f"accumulated_{i}": v.numpy() for i, v in enumerate(self.variables)
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continues from what `state` returned, on any number of replicas.

        Args:
            state: Sums by name; empty for none.
        """
        for i, variable in enumerate(self.variables):
            # TensorFlow gives each replica its part of the sum.
            variable.assign(
                state[f"accumulated_{i}"] if state else tf.zeros_like(variable)
            )


def _replica_local(shape: Sequence[int], dtype: tf.DType) -> tf.Variable:
    return tf.Variable(
        tf.zeros(shape, dtype),
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.SUM,
    )
