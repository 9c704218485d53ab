"""Learning rates for large batches: how far to move, and how to start."""

import math
import numbers
from typing import Any

import keras
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from tfdp.batch import checked_count


def linear_scaled_rate(
    base_rate: float, *, global_batch: int, base_batch: int = 256
) -> float:
    """Returns the learning rate for `global_batch`, in proportion to its size.

    A gradient averaged over k times more samples is less noisy but is applied
    k times less often per epoch; multiplying the rate by k makes up for that.
    The rule fails early in training, when weights change fast: pair it with
    `WarmupSchedule`.

    Args:
        base_rate: Rate tuned for `base_batch`. Must be positive. To scale a
            schedule, scale the rates it is made from.
        global_batch: Samples behind one weight update, counted over replicas,
            workers and accumulation steps.
        base_batch: Batch size at which `base_rate` was tuned. Defaults to
            256, the reference size of the paper.

    Returns:
        `base_rate * global_batch / base_batch`.

    Raises:
        TypeError: If `base_rate` is not a number, or a batch not an integer.
        ValueError: If an argument is not positive.

    Example:

    >>> linear_scaled_rate(0.1, global_batch=8192)
    3.2

    Reference:
        Goyal et al., 2017, section 2.1. https://arxiv.org/abs/1706.02677
    """
    rate = _checked_rate("base_rate", base_rate)
    return rate * _growth(global_batch, base_batch)


def sqrt_scaled_rate(
    base_rate: float, *, global_batch: int, base_batch: int = 256
) -> float:
    """Returns the learning rate for `global_batch`, by the root of its size.

    A gradient averaged over k times more samples has 1 / k of the variance;
    multiplying the rate by the square root of k keeps the variance of an
    update. It is the usual choice for optimizers that divide by the size of
    the gradient, such as Adam, and grows more slowly than
    `linear_scaled_rate`.

    Args:
        base_rate: Rate tuned for `base_batch`. Must be positive. To scale a
            schedule, scale the rates it is made from.
        global_batch: Samples behind one weight update, counted over replicas,
            workers and accumulation steps.
        base_batch: Batch size at which `base_rate` was tuned. Defaults to 256.

    Returns:
        `base_rate * sqrt(global_batch / base_batch)`.

    Raises:
        TypeError: If `base_rate` is not a number, or a batch not an integer.
        ValueError: If an argument is not positive.

    Example:

    >>> sqrt_scaled_rate(0.001, global_batch=4096)
    0.004

    Reference:
        Krizhevsky, 2014, section 5. https://arxiv.org/abs/1404.5997
    """
    rate = _checked_rate("base_rate", base_rate)
    return rate * math.sqrt(_growth(global_batch, base_batch))


@keras.saving.register_keras_serializable(package="tfdp")
class WarmupSchedule(LearningRateSchedule):
    """Raises the learning rate linearly, then follows a rate or a schedule.

    A rate scaled for a large batch is too high for the first updates, when
    weights change fast. The warm-up starts at `initial_rate` and reaches the
    peak after `warmup_updates` updates; the wrapped schedule begins there:

    ```python
    if update < warmup_updates:
        rate = initial_rate + (peak - initial_rate) * update / warmup_updates
    else:
        rate = learning_rate(update - warmup_updates)
    ```

    where `peak` is `learning_rate(0)`. Inside `tfdp.DistributedOptimizer` a
    step of a schedule is a weight update, whatever the accumulation.

    Args:
        learning_rate: A positive number, or a
            `keras.optimizers.schedules.LearningRateSchedule` that does not
            warm up itself.
        warmup_updates: Updates until the peak; an integer of at least 0,
            where 0 means no warm-up. About five epochs is customary, see
            `BatchPlan.updates_per_epoch`.
        initial_rate: Rate of the first update; a number of at least 0.
            Defaults to 0.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a rate is negative or not finite, if `learning_rate` is
            zero, or if `warmup_updates` is negative.

    Example:

    >>> rate = WarmupSchedule(0.5, warmup_updates=400)
    >>> [float(rate(update)) for update in (0, 100, 200, 400, 9000)]
    [0.0, 0.125, 0.25, 0.5, 0.5]

    Reference:
        Goyal et al., 2017, section 2.2. https://arxiv.org/abs/1706.02677
    """

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule,
        warmup_updates: int,
        *,
        initial_rate: float = 0.0,
    ) -> None:
        """Checks the rates and the length of the warm-up."""
        super().__init__()
        if not isinstance(learning_rate, LearningRateSchedule):
            learning_rate = _checked_rate(
                "learning_rate",
                learning_rate,
                expected="a number or a `LearningRateSchedule`",
            )
        self.learning_rate = learning_rate
        self.warmup_updates = checked_count(
            "warmup_updates", warmup_updates, minimum=0
        )
        self.initial_rate = _checked_rate(
            "initial_rate", initial_rate, zero_allowed=True
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
        rising = (rate - self.initial_rate) * completed + self.initial_rate
        return ops.where(step < self.warmup_updates, rising, rate)

    def _wrapped_rate(self, step: Any) -> Any:
        rate = self.learning_rate
        if isinstance(rate, LearningRateSchedule):
            rate = rate(step)
        return ops.cast(rate, "float32")

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments, with a wrapped schedule serialized."""
        rate = self.learning_rate
        if isinstance(rate, LearningRateSchedule):
            rate = keras.saving.serialize_keras_object(rate)
        return {
            "learning_rate": rate,
            "warmup_updates": self.warmup_updates,
            "initial_rate": self.initial_rate,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "WarmupSchedule":
        """Returns the schedule that `get_config` describes.

        Args:
            config: Output of `get_config`.
        """
        rate = config["learning_rate"]
        if isinstance(rate, dict):
            rate = keras.saving.deserialize_keras_object(rate)
        return cls(**{**config, "learning_rate": rate})


def _growth(global_batch: int, base_batch: int) -> float:
    return checked_count("global_batch", global_batch) / checked_count(
        "base_batch", base_batch
    )


def _checked_rate(
    name: str,
    value: Any,
    *,
    expected: str = "a number",
    zero_allowed: bool = False,
) -> float:
    if isinstance(value, LearningRateSchedule):
        schedule = type(value).__name__
        raise TypeError(
            f"`{name}` must be a number. Received: {name}={schedule}. Scale "
            "the rates that the schedule is made from, then wrap it: "
            f"`WarmupSchedule({schedule}(linear_scaled_rate(...), ...), ...)`."
        )
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(
            f"`{name}` must be {expected}. "
            f"Received: {name}={value!r} ({type(value).__name__})."
        )
    rate = float(value)
    if not math.isfinite(rate) or rate < 0 or (rate == 0 and not zero_allowed):
        sign = "not negative" if zero_allowed else "positive"
        raise ValueError(
            f"`{name}` must be finite and {sign}. Received: {name}={rate}."
        )
    return rate
