"""The factor that keeps float16 gradients from vanishing, and its verdict."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras
import tensorflow as tf

from tfdp.checks import checked_count, checked_number
from tfdp.step import Gradient, at_least_float32, is_finite, on_values
from tfdp.synchronization import Reduced, unscaled_moments

# Below 1 a loss scale would make small gradients smaller.
FLOOR = 1.0
# As NVIDIA's Apex has it. Of an infinite scale there would be no way back.
_CEILING = 2.0**24
# That float32 holds.
_LARGEST = 2.0**127


def resolved_loss_scale(
    loss_scale: str | float | None,
) -> Literal["dynamic"] | float | None:
    """Returns what `"auto"` means under the global dtype policy.

    Args:
        loss_scale: `"auto"`, `"dynamic"`, a positive number, or `None`.

    Returns:
        `"dynamic"`, a positive number, or `None` for no scaling.

    Raises:
        ValueError: If `loss_scale` is none of these.
    """
    if loss_scale == "auto":
        computes_in = keras.config.dtype_policy().compute_dtype
        return "dynamic" if computes_in == "float16" else None
    if loss_scale == "dynamic":
        return "dynamic"
    if loss_scale is None:
        return None
    if (
        isinstance(loss_scale, bool)
        or not isinstance(loss_scale, (int, float))
        or not 0 < loss_scale <= _LARGEST
    ):
        raise ValueError(
            "`loss_scale` must be 'auto', 'dynamic', a positive number, or "
            f"None. Received: loss_scale={loss_scale!r}."
        )
    return float(loss_scale)


def scaling_of(
    loss_scale: float | str | None,
    initial_scale: float,
    dynamic_growth_steps: int,
) -> dict[str, Any]:
    """Returns what Keras's own optimizer of scaled losses is made with.

    Args:
        loss_scale: What `resolved_loss_scale` has returned.
        initial_scale: Where one that is dynamic begins.
        dynamic_growth_steps: Updates after which it is doubled.

    Returns:
        Arguments, by name.

    Raises:
        TypeError: If `initial_scale` is not a number, or
            `dynamic_growth_steps` no integer.
        ValueError: If one is not positive, or too large.
    """
    begin = checked_number("initial_scale", initial_scale, maximum=_LARGEST)
    steps = checked_count("dynamic_growth_steps", dynamic_growth_steps)
    if loss_scale != "dynamic":
        begin = float(loss_scale or 1.0)
    return {"initial_scale": begin, "dynamic_growth_steps": steps}


class LossScale:
    """Scales the loss, and judges whether an update survived it.

    A scale that is dynamic is halved, down to 1, by an update whose gradient
    is not finite, and doubled, up to 2**24, after `growth_interval` finite ones
    in a row.

    Args:
        scale: Scalar float32 variable; the present scale.
        finite_updates: Scalar integer variable; finite updates since the
            scale last changed.
        skipped_updates: Scalar integer variable; updates skipped so far.
        growth_interval: Finite updates after which a dynamic scale doubles.
        is_dynamic: Whether the scale changes.
    """

    def __init__(
        self,
        scale: keras.Variable,
        finite_updates: keras.Variable,
        skipped_updates: keras.Variable,
        *,
        growth_interval: int,
        is_dynamic: bool,
    ) -> None:
        self._scale = scale
        self._finite_updates = finite_updates
        self._skipped_updates = skipped_updates
        self._growth_interval = growth_interval
        self._is_dynamic = is_dynamic

    @property
    def scale(self) -> tf.Tensor:
        """The present scale; scalar float32."""
        return self._scale.value

    def scaled(self, loss: tf.Tensor) -> tf.Tensor:
        """Returns the loss times the scale."""
        return loss * tf.cast(self._scale.value, loss.dtype)

    def unscaled(self, reduced: Reduced) -> Reduced:
        """Returns gradients of the scaled loss, divided by the scale."""
        scale = self._scale.value
        gradients = [
            on_values(lambda v: v / tf.cast(scale, v.dtype), gradient)
            for gradient in map(at_least_float32, reduced.gradients)
        ]
        moments = unscaled_moments(reduced.moments, scale)
        return Reduced(gradients, moments, reduced.weight)

    def update_if_finite(
        self,
        strategy: tf.distribute.Strategy,
        gradients: Sequence[Gradient],
        update: Callable[[], None],
        skip: Callable[[], None],
    ) -> None:
        """Makes the update, or skips it, and adapts the scale.

        Called in cross-replica context. The gradients are reduced, so that
        any replica's verdict is everybody's.

        Args:
            strategy: The strategy in whose context this is called.
            gradients: Reduced gradients, as distributed values.
            update: Makes the update, from cross-replica context.
            skip: Called in its place where it is skipped.
        """
        first = tf.nest.map_structure(
            lambda g: strategy.experimental_local_results(g)[0],
            list(gradients),
        )
        finite = tf.reduce_all([is_finite(g) for g in first])

        def make() -> tf.Tensor:
            update()
            if self._is_dynamic:
                count = self._finite_updates.value + 1
                grows = count >= self._growth_interval
                self._finite_updates.assign(
                    tf.where(grows, tf.zeros_like(count), count)
                )
                doubles = tf.logical_and(grows, self._scale.value < _CEILING)
                factor = tf.where(doubles, 2.0, 1.0)
                self._scale.assign(self._scale.value * factor)
            return tf.constant(0)

        def leave_out() -> tf.Tensor:
            skip()
            self._skipped_updates.assign(self._skipped_updates.value + 1)
            if self._is_dynamic:
                self._finite_updates.assign(0)
                self._scale.assign(tf.maximum(self._scale.value / 2.0, FLOOR))
            return tf.constant(0)

        tf.cond(finite, make, leave_out)
