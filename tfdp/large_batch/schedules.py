"""Learning rate schedules made from others: scaled or stretched."""

from typing import Any

import keras
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from tfdp.large_batch.learning_rate import checked_number


class Wrapper(LearningRateSchedule):
    """Comes back from a configuration in which a schedule is serialized."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LearningRateSchedule:
        """Returns the schedule that `get_config` describes.

        Args:
            config: Output of `get_config`.
        """
        return cls(
            **{
                name: keras.saving.deserialize_keras_object(value)
                if isinstance(value, dict)
                else value
                for name, value in config.items()
            }
        )


@keras.saving.register_keras_serializable(package="tfdp")
class ScaledSchedule(Wrapper):
    """Multiplies a schedule by a number.

    It is what `scale_learning_rate` makes of a schedule. The whole of it is
    multiplied, also the start of a warm-up inside and a floor at its end. To
    warm up from the rate of the base batch, put the warm-up around it:
    `WarmupSchedule(ScaledSchedule(...), ..., initial_rate=...)`.

    Args:
        learning_rate: A `keras.optimizers.schedules.LearningRateSchedule`.
        factor: What its rates are multiplied by; a positive number.

    Raises:
        TypeError: If `learning_rate` is not a schedule, or `factor` not a
            number.
        ValueError: If `factor` is not positive or not finite.

    Example:

    >>> decay = keras.optimizers.schedules.PolynomialDecay(0.25, 100)
    >>> rate = tfdp.ScaledSchedule(decay, 4)
    >>> float(decay(0)), float(rate(0))
    (0.25, 1.0)
    """

    def __init__(
        self, learning_rate: LearningRateSchedule, factor: float
    ) -> None:
        """Checks the schedule and the factor."""
        super().__init__()
        self.learning_rate = _checked_schedule(
            "learning_rate",
            learning_rate,
            "Multiply a number yourself, or by `linear_scaled_rate`",
        )
        self.factor = checked_number("factor", factor)

    def __call__(self, step: Any) -> Any:
        """Returns the rate of an update as a float32 scalar.

        Args:
            step: Updates made so far, as the wrapped schedule takes them.
        """
        return ops.cast(self.learning_rate(step), "float32") * self.factor

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments, with the schedule serialized."""
        return {
            "learning_rate": keras.saving.serialize_keras_object(
                self.learning_rate
            ),
            "factor": self.factor,
        }


@keras.saving.register_keras_serializable(package="tfdp")
class StretchedSchedule(Wrapper):
    """Lets one step of a schedule last for any number of updates.

    A schedule that counts updates ends too early or too late after a change
    of the batch size. Written in epochs, or in samples, it stays right:

    | The schedule counts     | `updates_per_step`              |
    | ----------------------- | ------------------------------- |
    | epochs                  | `plan.updates_per_epoch(n)`     |
    | samples                 | `1 / plan.global_batch`         |
    | updates of a base batch | `base_batch / global_batch`     |

    The schedule is asked for the step `update / updates_per_step`, in
    float64, and is to take fractions of steps. A quotient within rounding of
    a whole number is that number, so that each epoch begins on its update; a
    Keras `PiecewiseConstantDecay` still has its old value on a boundary, and
    so changes one update later.
    In an epoch with a short last batch, samples are counted as if it were
    full.

    Args:
        schedule: A `keras.optimizers.schedules.LearningRateSchedule`, all
            times of which are in steps of its own.
        updates_per_step: Updates that a step lasts; a positive number.

    Raises:
        TypeError: If `schedule` is not a schedule, or `updates_per_step` not
            a number.
        ValueError: If `updates_per_step` is not positive or not finite.

    Example:

    >>> plan = tfdp.BatchPlan(
    ...     global_batch=1000, per_replica_batch=125, num_replicas=8
    ... )
    >>> decay = keras.optimizers.schedules.PolynomialDecay
    >>> in_epochs = tfdp.StretchedSchedule(
    ...     decay(0.5, 90, 0.0), plan.updates_per_epoch(50_000)
    ... )
    >>> in_samples = tfdp.StretchedSchedule(
    ...     decay(0.5, 4_500_000, 0.0), 1 / plan.global_batch
    ... )
    >>> in_updates_of_250 = tfdp.StretchedSchedule(
    ...     decay(0.5, 18_000, 0.0), 250 / plan.global_batch
    ... )
    >>> for rate in (in_epochs, in_samples, in_updates_of_250):
    ...     print([float(rate(epoch * 50)) for epoch in (0, 45, 90)])
    [0.5, 0.25, 0.0]
    [0.5, 0.25, 0.0]
    [0.5, 0.25, 0.0]

    Reference:
        Goyal et al., 2017, section 2.1: other hyper-parameters, of which
        those in epochs, are kept unchanged. https://arxiv.org/abs/1706.02677
    """

    def __init__(
        self, schedule: LearningRateSchedule, updates_per_step: float
    ) -> None:
        """Checks the schedule and the length of its steps."""
        super().__init__()
        self.schedule = _checked_schedule(
            "schedule", schedule, "Pass a number as it is: it lasts forever"
        )
        self.updates_per_step = checked_number(
            "updates_per_step", updates_per_step
        )

    def __call__(self, step: Any) -> Any:
        """Returns the rate of an update as a float32 scalar.

        Args:
            step: Updates made so far: an integer, a scalar tensor or a
                `keras.Variable`.
        """
        update = ops.cast(ops.convert_to_tensor(step), "float64")
        steps = update / self.updates_per_step
        whole = ops.round(steps)
        is_whole = ops.abs(steps - whole) <= whole * 2.0**-50
        return ops.cast(
            self.schedule(ops.where(is_whole, whole, steps)), "float32"
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments, with the schedule serialized."""
        return {
            "schedule": keras.saving.serialize_keras_object(self.schedule),
            "updates_per_step": self.updates_per_step,
        }


def _checked_schedule(
    name: str, value: Any, way_out: str
) -> LearningRateSchedule:
    if not isinstance(value, LearningRateSchedule):
        raise TypeError(
            f"`{name}` must be a `LearningRateSchedule`. Received: "
            f"{name}={value!r} ({type(value).__name__}). {way_out}."
        )
    return value
