"""Rules by which the learning rate follows the size of the batch."""

import math
import numbers
from typing import Any

from keras.optimizers.schedules import LearningRateSchedule

from tfdp.checks import checked_count, checked_number


def checked_rate(rate: Any) -> Any:
    """Returns a learning rate, after checking it where it is a number.

    Args:
        rate: A number, or what Keras takes in its stead.

    Raises:
        TypeError: If it is a boolean.
        ValueError: If it is negative or not finite.
    """
    if isinstance(rate, numbers.Real):
        return checked_number("learning_rate", rate, zero_allowed=True)
    return rate


def linear_scaled_rate(
    base_rate: float, *, global_batch: int, base_batch: int = 256
) -> float:
    """Returns the learning rate for `global_batch`, in proportion to its size.

    A gradient averaged over k times more samples is less noisy but is applied
    k times less often per epoch; multiplying the rate by k makes up for that.
    The rule fails early in training, when weights change fast: pair it with
    `WarmupSchedule`.

    Args:
        base_rate: Rate tuned for `base_batch`. Must be positive. A schedule
            is scaled by `scale_learning_rate`.
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
    rate = _checked_base_rate(base_rate)
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
        base_rate: Rate tuned for `base_batch`. Must be positive. A schedule
            is scaled by `scale_learning_rate`.
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
    rate = _checked_base_rate(base_rate)
    return rate * math.sqrt(_growth(global_batch, base_batch))


def _growth(global_batch: int, base_batch: int) -> float:
    return checked_count("global_batch", global_batch) / checked_count(
        "base_batch", base_batch
    )


def _checked_base_rate(value: Any) -> float:
    if isinstance(value, LearningRateSchedule):
        raise TypeError(
            "`base_rate` must be a number. Received: "
            f"base_rate={type(value).__name__}. Pass a schedule to "
            "`tfdp.scale_learning_rate`."
        )
    return checked_number("base_rate", value)
