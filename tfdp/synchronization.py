"""How replicas synchronise: the part of the optimizer that owns the update."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfdp import _keras
from tfdp.gradients import Gradient, deduplicated, on_values


class Synchronous:
    """Updates every replica with the mean gradient over all samples.

    One all-reduce carries the gradients and the number of samples behind
    them; then a copy of the user's optimizer makes its own update.

    Args:
        inner_optimizer: The user's optimizer, not built yet. It is copied,
            and stays what it was.

    Raises:
        TypeError: If `inner_optimizer` is no optimizer.
        ValueError: If it accumulates or scales the loss itself, or was used.
    """

    def __init__(self, inner_optimizer: keras.optimizers.Optimizer) -> None:
        _check_inner_optimizer(inner_optimizer)
        self.inner_optimizer = _keras.copy_that_takes_reduced_gradients(
            inner_optimizer
        )

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Creates the slots of the inner optimizer."""
        self.inner_optimizer.build(variables)

    def reduce(
        self, gradients: Sequence[Gradient], samples: tf.Tensor | None
    ) -> list[Gradient]:
        """Averages gradients over the samples of all replicas.

        Called in replica context, once per update.

        Args:
            gradients: Gradients of this replica, weighted by its samples.
            samples: Scalar float32; samples behind them, or `None` where the
                strategy does not count them: then gradients are added up, as
                Keras does.

        Returns:
            The same gradients on every replica; slices with each row once.
        """
        totals = list(gradients)
        if samples is not None:
            # Tensors of one type share a pack.
            totals.append(tf.cast(samples, totals[0].dtype))
        context = tf.distribute.get_replica_context()
        if context.num_replicas_in_sync > 1:
            # The name tells these collectives from Keras's in a profile.
            with tf.name_scope("tfdp_all_reduce"):
                totals = context.all_reduce(tf.distribute.ReduceOp.SUM, totals)
        if samples is not None:
            *totals, count = totals
            totals = [
                on_values(
                    lambda v: tf.math.divide_no_nan(v, tf.cast(count, v.dtype)),
                    total,
                )
                for total in totals
            ]
        return [deduplicated(total) for total in totals]

    def apply(
        self,
        gradients: Sequence[Gradient],
        variables: Sequence[keras.Variable],
    ) -> None:
        """Makes the inner optimizer's update, in replica context."""
        self.inner_optimizer.apply(gradients, variables)

    def finalize(self, variables: Sequence[keras.Variable]) -> None:
        """Gives the variables their final values at the end of training."""
        self.inner_optimizer.finalize_variable_values(variables)


def _check_inner_optimizer(optimizer: Any) -> None:
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise TypeError(
            "`inner_optimizer` must be a `keras.optimizers.Optimizer`. "
            f"Received: inner_optimizer={optimizer!r}. Pass, for example, "
            "`keras.optimizers.Adam(1e-3)`."
        )
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        raise ValueError(
            "`inner_optimizer` must not scale the loss itself. Received: "
            f"inner_optimizer={type(optimizer).__name__}. Pass its own inner "
            "optimizer, and `loss_scale=` to DistributedOptimizer."
        )
    if type(optimizer).__name__ == "MultiOptimizer":
        raise ValueError(
            "`inner_optimizer` must be a single optimizer. Received: "
            "inner_optimizer=MultiOptimizer. Pass one of its optimizers; "
            "different ones for different variables are not supported yet."
        )
    if optimizer.ema_overwrite_frequency:
        raise ValueError(
            "`inner_optimizer` must not overwrite weights during training. "
            "Received: ema_overwrite_frequency="
            f"{optimizer.ema_overwrite_frequency}. Leave it out; with "
            "`use_ema=True` the average is taken over at the end of `fit`."
        )
    if optimizer.gradient_accumulation_steps:
        raise ValueError(
            "`inner_optimizer` must not accumulate gradients itself. "
            "Received: gradient_accumulation_steps="
            f"{optimizer.gradient_accumulation_steps}. Leave it out, and pass "
            "`accumulation_steps=` to DistributedOptimizer."
        )
    if optimizer.loss_scale_factor is not None:
        raise ValueError(
            "`inner_optimizer` must not scale the loss itself. Received: "
            f"loss_scale_factor={optimizer.loss_scale_factor}. Leave it out, "
            "and pass `loss_scale=` to DistributedOptimizer."
        )
    if optimizer.built:
        raise ValueError(
            "`inner_optimizer` must not have been used, because it is copied "
            f"without its state. Received: {type(optimizer).__name__} after "
            f"{int(optimizer.iterations.numpy())} updates. Pass a new one."
        )
