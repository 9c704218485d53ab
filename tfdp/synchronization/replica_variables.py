"""Variables of which each replica has its own."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


def replica_local(shape: Sequence[int], dtype: tf.DType) -> tf.Variable:
    """Creates one that begins with zeros, whatever graph is being made.

    Read from outside of replicas, it is the sum over all.

    Args:
        shape: Its shape.
        dtype: Its dtype.
    """
    with tf.init_scope():
        return tf.Variable(
            tf.zeros(shape, dtype),
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.SUM,
        )


def assign_each(
    strategy: tf.distribute.Strategy, variable: keras.Variable, value: Any
) -> None:
    """Gives each replica's part of a mirrored variable that replica's value.

    Args:
        strategy: The strategy, in whose cross-replica context this is called.
        variable: The variable.
        value: A distributed value, or one for all.
    """
    strategy.extended.update(
        variable.value,
        lambda part, value: part.assign(tf.cast(value, part.dtype)),
        args=(value,),
        group=False,
    )
