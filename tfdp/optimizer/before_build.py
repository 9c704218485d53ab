"""What an optimizer answers before it is built."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfdp.step import SampleCounter

_COUNTS = ("micro_step", "skipped_updates", "step_counter")


class BeforeBuild(keras.optimizers.LossScaleOptimizer):
    """Keras's `LossScaleOptimizer`, whose state can be asked for at any time.

    Keras builds an optimizer before the first step. Until then nothing was
    counted, and the loss scale is the one to begin with.
    """

    def __getattr__(self, name: str) -> Any:
        """Answers for a variable that `build` is yet to make."""
        if name in _COUNTS:
            return tf.zeros((), tf.int64)
        if name == "dynamic_scale":
            return tf.constant(self.initial_scale, tf.float32)
        raise AttributeError(
            f"{type(self).__name__!r} object has no attribute {name!r}"
        )

    def exclude_from_weight_decay(
        self,
        var_list: Sequence[keras.Variable] | None = None,
        var_names: Sequence[str] | None = None,
    ) -> None:
        """Excludes variables from the inner optimizer's weight decay.

        Args:
            var_list: Variables to exclude.
            var_names: Parts of the names of variables to exclude.

        Raises:
            ValueError: If the optimizer is built already.
        """
        self.inner_optimizer.exclude_from_weight_decay(var_list, var_names)


class NothingCounted(SampleCounter):
    """Stands for the counts of samples before there are any.

    Args:
        strategy: The strategy whose replicas will count.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        workers = getattr(strategy, "num_workers", 1)
        self._replicas_here = strategy.num_replicas_in_sync // workers
        self.variable = tf.zeros((), tf.int64)

    def by_replica(self) -> list[int]:
        """Returns a zero for each replica of this worker."""
        return [0] * self._replicas_here
