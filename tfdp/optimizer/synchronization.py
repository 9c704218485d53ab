"""How replicas synchronise: the part of the optimizer that owns the update."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfdp.optimizer.compression import (
    checked_compression,
    compressed,
    decompressed,
)
from tfdp.optimizer.fused import use_fused_update
from tfdp.optimizer.gradient_statistics import Moments, moments
from tfdp.optimizer.packs import ready_first
from tfdp.settings import DEFAULT_PACK
from tfdp.step import Gradient, deduplicated, on_values
from tfdp.upstream import keras_optimizers


class Reduced(NamedTuple):
    """Gradients that are the same on every replica.

    Attributes:
        gradients: The gradients, slices with each row once.
        moments: How those behind them scatter, if that was asked for.
    """

    gradients: list[Gradient]
    moments: Moments | None


class Synchronous:
    """Updates every replica with the mean gradient over all samples.

    One all-reduce carries the gradients and the weight behind them, by default
    their samples; then a copy of the user's optimizer makes its own update.
    Where gradients are compressed, an all-reduce of the weights goes before,
    so that what is rounded is each replica's part of the mean.

    Args:
        inner_optimizer: The user's optimizer, not built yet. It is copied,
            and stays what it was.
        compression: `"bfloat16"`, `"float16"` or `None`; the number format of
            gradients between replicas. Defaults to `None`, their own.

    Raises:
        TypeError: If `inner_optimizer` is no optimizer.
        ValueError: If it accumulates or scales the loss itself, or was used;
            or if `compression` is none of the above.
    """

    def __init__(
        self,
        inner_optimizer: keras.optimizers.Optimizer,
        compression: str | None = None,
    ) -> None:
        self.compression = checked_compression(compression)
        _check_inner_optimizer(inner_optimizer)
        self.inner_optimizer = (
            keras_optimizers.copy_that_takes_reduced_gradients(inner_optimizer)
        )

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Creates the slots of the inner optimizer."""
        self.inner_optimizer.build(variables)
        for each in self._optimizers:
            use_fused_update(each)

    def reduce(
        self,
        gradients: Sequence[Gradient],
        weight: tf.Tensor | None,
        scatter: tf.Tensor | None = None,
        scale: tf.Tensor | None = None,
    ) -> Reduced:
        """Averages gradients by the weights of all replicas.

        Called in replica context, once per update.

        Args:
            gradients: Gradients of this replica, weighted.
            weight: Scalar float32; the weight behind them, or `None` where
                gradients are to be added up.
            scatter: How the gradients scatter, if their moments are wanted;
                see `gradient_statistics.scatter`.
            scale: Scalar float32; how much too large the gradients are, and
                stay. They are sent without it where they are compressed.

        Returns:
            The gradients, with their moments if wanted.
        """
        numbers = [each for each in (scatter, weight) if each is not None]
        if self.compression and _num_replicas() > 1:
            numbers = _all_reduced(numbers)
            count = None if weight is None else numbers[-1]
            means = _all_reduced_compressed(
                gradients, count, scale, self.compression
            )
        else:
            # Tensors of one type share a pack.
            dtype = gradients[0].dtype
            totals = _all_reduced(
                [*gradients, *(tf.cast(each, dtype) for each in numbers)]
            )
            means, numbers = (
                totals[: len(gradients)],
                totals[len(gradients) :],
            )
            count = None if weight is None else numbers[-1]
            if count is not None:
                means = [_divided(total, count) for total in means]
        means = [deduplicated(mean) for mean in means]
        if scatter is None or count is None:
            return Reduced(means, None)
        return Reduced(means, moments(numbers[0], count, means))

    def apply(
        self, reduced: Reduced, variables: Sequence[keras.Variable]
    ) -> None:
        """Makes the inner optimizer's update, in replica context.

        Args:
            reduced: What `reduce` has returned.
            variables: The variables, in the order of the gradients.
        """
        gradients: Sequence[Gradient | None] = reduced.gradients
        if self.wants_moments:
            self.inner_optimizer.observe(reduced.moments)
        if keras_optimizers.is_multi_optimizer(self.inner_optimizer):
            gradients, variables = keras_optimizers.with_missing_gradients(
                self.inner_optimizer, gradients, variables
            )
        self.inner_optimizer.apply(gradients, variables)

    @property
    def wants_moments(self) -> bool:
        """Whether the update depends on the moments of its gradients."""
        return _observes_moments(self.inner_optimizer)

    @property
    def overwrites(self) -> bool:
        """Whether weights are overwritten by averages during training."""
        return any(each.ema_overwrite_frequency for each in self._optimizers)

    def overwrite(self) -> None:
        """Overwrites weights by their averages, when it is time.

        Called in cross-replica context, after each update.
        """
        for optimizer in self._optimizers:
            if optimizer.use_ema and optimizer.ema_overwrite_frequency:
                is_time = tf.equal(
                    optimizer.iterations.value
                    % optimizer.ema_overwrite_frequency,
                    0,
                )
                tf.cond(
                    is_time,
                    functools.partial(_overwrite, optimizer),
                    lambda: tf.constant(0),
                )

    def finalize(self, variables: Sequence[keras.Variable]) -> None:
        """Gives the variables their final values at the end of training."""
        self.inner_optimizer.finalize_variable_values(variables)
        for optimizer in self._optimizers:
            if optimizer.use_ema:
                keras_optimizers.overwrite_with_average(optimizer)

    @property
    def _optimizers(self) -> list[keras.optimizers.Optimizer]:
        return _single_optimizers(self.inner_optimizer)


def _num_replicas() -> int:
    return tf.distribute.get_replica_context().num_replicas_in_sync


def _all_reduced(tensors: Sequence[Gradient]) -> list[Gradient]:
    """Adds up tensors over all replicas, each type in packs of its own."""
    totals = list(tensors)
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return totals
    # The name tells these collectives from Keras's in a profile.
    bytes_per_pack = getattr(context.strategy, "bytes_per_pack", DEFAULT_PACK)
    with tf.name_scope("tfdp_all_reduce"):
        for dtype in dict.fromkeys(each.dtype for each in tensors):
            alike = [i for i, t in enumerate(tensors) if t.dtype == dtype]
            order = ready_first([tensors[i] for i in alike], bytes_per_pack)
            places = [alike[i] for i in order]
            sums = context.all_reduce(
                tf.distribute.ReduceOp.SUM, [tensors[i] for i in places]
            )
            for place, total in zip(places, sums, strict=True):
                totals[place] = total
    return totals


def _all_reduced_compressed(
    gradients: Sequence[Gradient],
    count: tf.Tensor | None,
    scale: tf.Tensor | None,
    compression: str,
) -> list[Gradient]:
    """Returns the means, or the sums where there is no count."""
    factor = tf.constant(1.0)
    if count is not None:
        factor = tf.math.divide_no_nan(factor, count)
    if scale is not None:
        factor /= scale
    parts = [compressed(each, factor, compression) for each in gradients]
    sums = [
        decompressed(total, gradient.dtype, compression)
        for total, gradient in zip(_all_reduced(parts), gradients, strict=True)
    ]
    if scale is None:
        return sums
    return [
        on_values(lambda v: v * tf.cast(scale, v.dtype), each) for each in sums
    ]


def _divided(total: Gradient, count: tf.Tensor) -> Gradient:
    return on_values(
        lambda v: tf.math.divide_no_nan(v, tf.cast(count, v.dtype)), total
    )


def _single_optimizers(
    optimizer: keras.optimizers.Optimizer,
) -> list[keras.optimizers.Optimizer]:
    if keras_optimizers.is_multi_optimizer(optimizer):
        return list(optimizer.optimizers)
    return [optimizer]


def _observes_moments(optimizer: keras.optimizers.Optimizer) -> bool:
    return getattr(optimizer, "observes_moments", False)


def _overwrite(optimizer: keras.optimizers.Optimizer) -> tf.Tensor:
    keras_optimizers.overwrite_with_average(optimizer)
    for variable in keras_optimizers.trained_variables(optimizer):
        if variable.constraint is not None:
            variable.assign(variable.constraint(variable))
    return tf.constant(0)


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
    for each in _single_optimizers(optimizer):
        if each is not optimizer:
            _check_inner_optimizer(each)
            if _observes_moments(each):
                raise ValueError(
                    f"`{type(each).__name__}` must update all variables, "
                    "whose gradients it looks at together. Received: a "
                    "MultiOptimizer that holds one. Pass it alone, or use "
                    "another optimizer in its place."
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
