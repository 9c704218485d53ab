"""What an update needs for every variable, and computes but once."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf


class OncePerApply:
    """Keeps what the update of one variable has computed for the others.

    Outside of `apply` nothing is kept.

    Args:
        optimizer: The optimizer, whose `apply` is watched.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer) -> None:
        self._kept: dict[Any, tf.Tensor] | None = None
        apply_by_keras = optimizer.apply

        def apply(*args: Any, **kwargs: Any) -> Any:
            self._kept = {}
            try:
                return apply_by_keras(*args, **kwargs)
            finally:
                self._kept = None

        optimizer.apply = apply

    def computed(
        self, name: str, variable: tf.Variable, compute: Callable[[], tf.Tensor]
    ) -> tf.Tensor:
        """Returns a tensor for the device, the dtype and the graph of a step.

        Args:
            name: Tells one such tensor from another.
            variable: The variable that is updated.
            compute: Computes the tensor, where it is not there yet.
        """
        if self._kept is None:
            return compute()
        # A branch of a condition is a graph of its own.
        graph = id(tf.compat.v1.get_default_graph())
        key = name, variable.device, variable.dtype, graph
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]
