"""What an optimizer keeps for each of its variables."""

import keras
import numpy as np
import tensorflow as tf

from tfdp.synchronization.variables.replica_variables import assign_each
from tfdp.upstream.keras import keras_optimizers


class Slots:
    """The variables of a built optimizer, but for its count and its rate.

    Args:
        optimizer: The optimizer.

    Attributes:
        averages: Moving averages of the weights.
        others: All the rest, as momenta.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer) -> None:
        averages = keras_optimizers.moving_averages(optimizer)
        apart = {
            id(each)
            for each in (
                optimizer.iterations,
                optimizer.learning_rate,
                *averages,
            )
        }
        self.averages = averages
        self.others = [v for v in optimizer.variables if id(v) not in apart]
        with tf.init_scope():
            self._begin = [_constant(each) for each in self.others]

    @property
    def floating(self) -> list[keras.Variable]:
        """Those of `others` of which there can be a mean."""
        return [v for v in self.others if v.value.dtype.is_floating]

    def reset(self, strategy: tf.distribute.Strategy) -> None:
        """Gives `others` what they began with, in cross-replica context.

        Args:
            strategy: The strategy of the replicas.
        """
        for variable, begin in zip(self.others, self._begin, strict=True):
            if begin is not None:
                assign_each(strategy, variable, tf.fill(variable.shape, begin))


def _constant(variable: keras.Variable) -> np.generic | None:
    """Returns what all elements are, if that is one number."""
    values = variable.numpy().ravel()
    alike = values.size and (values == values[0]).all()
    return values[0] if alike else None
