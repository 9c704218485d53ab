"""The way by which replicas synchronise, of what was given and where."""

import tensorflow as tf

from tfdp.strategy import AsynchronousStrategy
from tfdp.synchronization.asynchronous import Asynchronous
from tfdp.synchronization.asynchronous_diloco import AsynchronousDiLoCo
from tfdp.synchronization.diloco import DiLoCo
from tfdp.synchronization.synchronization import Synchronization
from tfdp.synchronization.synchronous import Synchronous


def way_in(
    strategy: tf.distribute.Strategy, given: Synchronization
) -> Synchronization:
    """Returns the way by which replicas synchronise in a strategy.

    Args:
        strategy: The strategy that the optimizer is made in.
        given: What the optimizer was given.

    Raises:
        ValueError: If it cannot go with workers that do not wait.
    """
    if not isinstance(strategy, AsynchronousStrategy):
        return given
    if type(given) is Synchronous:
        return Asynchronous()
    if type(given) is DiLoCo:
        return AsynchronousDiLoCo(given)
    name = type(given).__name__
    raise ValueError(
        "In an AsynchronousStrategy a server makes the updates, of whole "
        f"gradients or of what a worker's rounds have moved. Received: "
        f"synchronization={name}. Leave it out, use tfdp.DiLoCo, or "
        "`tfdp.auto_strategy()`."
    )
