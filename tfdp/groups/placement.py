"""Where a stage is, on the replica at work and on all."""

import contextlib
from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

from tfdp.upstream.keras import keras_variables
from tfdp.upstream.tensorflow import tf_placement


def group_size(strategy: tf.distribute.Strategy) -> int:
    """Returns how many devices make up a replica; 0 without groups."""
    groups = getattr(strategy, "groups", None) or [[]]
    return len(groups[0])


def check_index(index: int, strategy: tf.distribute.Strategy) -> None:
    """Checks that a strategy's groups, if it has any, have a stage.

    Raises:
        ValueError: If they have fewer.
    """
    size = group_size(strategy)
    if size and index >= size:
        raise ValueError(
            "The index of a Stage must be below the number of devices of a "
            f"replica. Received: index={index}, and groups of {size}. Use "
            f"indices from 0 to {size - 1}, or larger groups."
        )


def own_device(index: int) -> str | None:
    """Returns the device of a stage, on the replica at work.

    Returns:
        `None` where it is left to TensorFlow: without groups, and where no
        replica is at work.
    """
    strategy = tf.distribute.get_strategy()
    context = tf.distribute.get_replica_context()
    if context is None or not group_size(strategy):
        return None
    replica = tf.get_static_value(context.replica_id_in_sync_group)
    if replica is None:
        return None
    groups: Any = strategy.groups
    return groups[int(replica) % len(groups)][index]


def variables_of_stage(
    index: int,
) -> contextlib.AbstractContextManager[None]:
    """Has variables made on the devices of a stage, one for each replica."""
    devices = _devices(index)
    if devices is None:
        return contextlib.nullcontext()
    return tf_placement.variables_on(devices)


def place(variables: Iterable[keras.Variable], index: int) -> None:
    """Sees to it that variables are on the devices of their stage.

    Those that were made before are made again there; those that Keras makes
    later will be.
    """
    devices = _devices(index)
    if devices is None:
        return
    for variable in variables:
        made = keras_variables.made_value(variable)
        if made is None:
            keras_variables.make_later_within(
                variable, lambda: tf_placement.variables_on(devices)
            )
        elif tf_placement.devices_of(made) != devices:
            with tf_placement.variables_on(devices):
                keras_variables.make_anew(variable)


def _devices(index: int) -> list[str] | None:
    strategy = tf.distribute.get_strategy()
    if not group_size(strategy):
        return None
    groups: Any = strategy.groups
    return [group[index] for group in groups]
