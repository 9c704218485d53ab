"""A gentle begin for a learning rate that is made for later."""

from typing import Any, Literal

import keras
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from tfdp.checks import checked_count
from tfdp.large_batch.learning_rate import checked_number
from tfdp.large_batch.schedules import Wrapper

_SHAPES = ("linear", "exponential", "constant")


@keras.saving.register_keras_serializable(package="tfdp")
class WarmupSchedule(Wrapper):
    """Raises the learning rate, then follows a rate or a schedule.

    A rate scaled for a large batch is too high for the first updates, when
    weights change fast. The warm-up starts at `initial_rate` and reaches the
    peak after `warmup_updates` updates; the wrapped schedule begins there:

    ```python
    completed = update / warmup_updates
    if completed >= 1:
        rate = learning_rate(update - warmup_updates)
    elif shape == "linear":
        rate = initial_rate + (peak - initial_rate) * completed
    elif shape == "exponential":
        rate = initial_rate * (peak / initial_rate) ** completed
    elif shape == "constant":
        rate = initial_rate
    ```

    where `peak` is `learning_rate(0)`. Inside `tfdp.DistributedOptimizer` a
    step of a schedule is a weight update, whatever the accumulation.

    Args:
        learning_rate: A positive number, or a
            `keras.optimizers.schedules.LearningRateSchedule` that does not
            warm up itself.
        warmup_updates: Updates until the peak; an integer of at least 0,
            where 0 means no warm-up. Either this is given, or the next two.
        warmup_epochs: Epochs until the peak; a number of at least 0, of which
            the updates are rounded. About five are customary.
        updates_per_epoch: Updates in an epoch, as
            `BatchPlan.updates_per_epoch` returns.
        initial_rate: Rate of the first update; a number of at least 0, above
            0 unless the shape is linear. Defaults to 0.
        shape: `"linear"`, `"exponential"` or `"constant"`. A constant warm-up
            jumps to the peak, after which the loss may rise; an exponential
            one needs a peak above 0. Defaults to `"linear"`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a rate is negative or not finite, if a rate is zero
            that must not be, if the length of the warm-up is negative, given
            twice or not at all, or if there is no such shape.

    Example:

    >>> rate = tfdp.WarmupSchedule(0.5, warmup_updates=400)
    >>> [float(rate(update)) for update in (0, 100, 200, 400, 9000)]
    [0.0, 0.125, 0.25, 0.5, 0.5]
    >>> plan = tfdp.BatchPlan(
    ...     global_batch=1000, per_replica_batch=125, num_replicas=8
    ... )
    >>> tfdp.WarmupSchedule(
    ...     0.5,
    ...     warmup_epochs=5,
    ...     updates_per_epoch=plan.updates_per_epoch(50_000),
    ... ).warmup_updates
    250

    Reference:
        Goyal et al., 2017, section 2.2: constant and gradual warmup.
        https://arxiv.org/abs/1706.02677
    """

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule,
        warmup_updates: int | None = None,
        *,
        warmup_epochs: float | None = None,
        updates_per_epoch: int | None = None,
        initial_rate: float = 0.0,
        shape: Literal["linear", "exponential", "constant"] = "linear",
    ) -> None:
        """Checks the rates and the length of the warm-up."""
        super().__init__()
        if not isinstance(learning_rate, LearningRateSchedule):
            learning_rate = checked_number(
                "learning_rate",
                learning_rate,
                expected="a number or a `LearningRateSchedule`",
            )
        if shape not in _SHAPES:
            raise ValueError(
                f"`shape` must be one of {', '.join(_SHAPES)}. "
                f"Received: shape={shape!r}."
            )
        self.learning_rate = learning_rate
        self.warmup_updates = _warmup_updates(
            warmup_updates, warmup_epochs, updates_per_epoch
        )
        self.initial_rate = checked_number(
            "initial_rate", initial_rate, zero_allowed=True
        )
        self.shape = shape
        if shape != "linear" and not self.initial_rate:
            raise ValueError(
                "`initial_rate` must be positive where the warm-up is "
                f'{shape}. Received: initial_rate=0.0, shape="{shape}". Pass '
                "the rate of the first update, for example that of the base "
                "batch."
            )

    def __call__(self, step: Any) -> Any:
        """Returns the rate of an update as a float32 scalar.

        Args:
            step: Updates made so far: an integer, a scalar tensor or a
                `keras.Variable`.
        """
        step = ops.convert_to_tensor(step)
        # 0 during the warm-up, so that `rate` is then the peak.
        rate = self._wrapped_rate(
            ops.maximum(step, self.warmup_updates) - self.warmup_updates
        )
        if not self.warmup_updates:
            return rate
        completed = ops.cast(step, "float32") / self.warmup_updates
        start = ops.cast(self.initial_rate, "float32")
        if self.shape == "linear":
            early = (rate - start) * completed + start
        elif self.shape == "exponential":
            early = start * ops.power(rate / start, completed)
        else:
            early = start
        return ops.where(step < self.warmup_updates, early, rate)

    def _wrapped_rate(self, step: Any) -> Any:
        rate = self.learning_rate
        if isinstance(rate, LearningRateSchedule):
            rate = rate(step)
        return ops.cast(rate, "float32")

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments, the length of the warm-up in updates."""
        rate = self.learning_rate
        if isinstance(rate, LearningRateSchedule):
            rate = keras.saving.serialize_keras_object(rate)
        return {
            "learning_rate": rate,
            "warmup_updates": self.warmup_updates,
            "initial_rate": self.initial_rate,
            "shape": self.shape,
        }


def _warmup_updates(
    updates: int | None, epochs: float | None, updates_per_epoch: int | None
) -> int:
    if epochs is None and updates_per_epoch is None and updates is not None:
        return checked_count("warmup_updates", updates, minimum=0)
    if epochs is None or updates_per_epoch is None or updates is not None:
        raise ValueError(
            "The length of a warm-up must be given either as `warmup_updates`, "
            "or as `warmup_epochs` with `updates_per_epoch`. Received: "
            f"warmup_updates={updates!r}, warmup_epochs={epochs!r}, "
            f"updates_per_epoch={updates_per_epoch!r}. Leave out one, or pass "
            "`updates_per_epoch=plan.updates_per_epoch(num_samples)`."
        )
    return round(
        checked_number("warmup_epochs", epochs, zero_allowed=True)
        * checked_count("updates_per_epoch", updates_per_epoch)
    )
