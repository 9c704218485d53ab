"""Variables of which each replica has its own."""

import contextlib
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


def replica_local(
    shape: Sequence[int],
    dtype: tf.DType,
    *,
    beside: keras.Variable | None = None,
) -> tf.Variable:
    """Creates one that begins with zeros, whatever graph is being made.

    Read from outside of replicas, it is the sum over all.

    Args:
        shape: Its shape.
        dtype: Its dtype.
        beside: A variable on whose devices it is to be. Defaults to the first
            of each replica.
    """
    where: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
    if beside is not None:
        # As Keras makes the slots of optimizers.
        extended = tf.distribute.get_strategy().extended
        where = extended.colocate_vars_with(
            beside.value if isinstance(beside, keras.Variable) else beside
        )
    with tf.init_scope(), where:
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
