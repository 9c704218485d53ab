"""SGD that goes as far with a large batch as its gradients allow."""

import math
from typing import Any

import keras
import tensorflow as tf
from keras.optimizers.schedules import LearningRateSchedule

from tfdp.checks import checked_count
from tfdp.large_batch.momentum import MomentumCorrectedSGD
from tfdp.synchronization import Moments, MovingAverage, checked_smoothing
from tfdp.upstream.keras import keras_optimizers

# Arguments of Keras's SGD that the paper does not cover, and what to do.
_NOT_COVERED = {
    "nesterov": "Use plain momentum",
    "weight_decay": "Use `kernel_regularizer=keras.regularizers.L2(...)`, "
    "which is part of the loss",
    "clipnorm": "The gain already shortens steps that are noise",
    "clipvalue": "The gain already shortens steps that are noise",
    "global_clipnorm": "The gain already shortens steps that are noise",
    "use_ema": "Average weights after training",
}


@keras.saving.register_keras_serializable(package="tfdp")
class AdaScale(MomentumCorrectedSGD):
    """SGD whose rate is multiplied by what a larger batch is worth.

    A batch S times the one that `learning_rate` was tuned for allows a rate S
    times as high where gradients are noise, and no higher one where they are
    not. The gain of each update lies between 1 and S:

    ```python
    gain = (base_variance + signal) / (base_variance / S + signal)
    rate = gain * learning_rate(scale_invariant_steps)
    scale_invariant_steps += gain
    ```

    where `base_variance` is the variance of the mean gradient of a base batch
    and `signal` the squared norm of the expected gradient. Both are told from
    the gradients of the replicas and micro-batches, at no further collective.

    An update stands for `gain` updates with the base batch. So a schedule is
    written as for the base batch, without a warm-up for the sake of size, and
    training has come as far as with the base batch when
    `scale_invariant_steps` is the number of updates it took there; stop it
    there by `callbacks.AdaScaleMonitor(total_steps=...)`.

    Give it to `tfdp.DistributedOptimizer`, with at least two replicas or
    accumulation steps. A last batch smaller than the base batch has a gain
    below 1. Momentum is that of `tfdp.MomentumCorrectedSGD`.

    Args:
        learning_rate: Rate tuned for `base_batch`; a number, or a schedule in
            updates of the base batch. Defaults to 0.01.
        momentum: Share of the velocity that is kept, a float in `[0, 1]`.
            Defaults to 0.
        base_batch: Samples behind an update, at which `learning_rate` was
            tuned.
        smoothing: Weight of the past in the moving averages of noise and
            signal, in `[0, 1)`; `None` for the paper's `max(1 - S / 1000, 0)`.
            Defaults to `None`.
        name: Name of the optimizer. Defaults to `"adascale"`.
        others: Arguments of Keras's SGD, none of which may be set.

    Attributes, of the copy that trains, `model.optimizer.inner_optimizer`:

    - `gain`: Scalar float32; gain of the last update.
    - `scale_invariant_steps`: Scalar float64; sum of all gains.

    The paper clips estimates before it averages them, and begins with a gain
    of 1. Here they are averaged first, which leaves less bias, and the first
    gain is of the first update.

    Raises:
        TypeError: If `base_batch` is not an integer, `smoothing` not a number,
            `learning_rate` a function, or an argument unknown.
        ValueError: If `base_batch` is not positive, if `smoothing` or
            `momentum` is out of range, or if an argument of Keras's SGD is
            given that the paper does not cover.

    Example:

    >>> with tfdp.MirroredStrategy(["CPU:0"]).scope():
    ...     optimizer = tfdp.DistributedOptimizer(
    ...         tfdp.AdaScale(0.1, momentum=0.9, base_batch=64),
    ...         accumulation_steps=16,
    ...     )

    Reference:
        Johnson et al., 2020, section 3 and appendix B.3.
        https://arxiv.org/abs/2007.05105
    """

    observes_moments = True

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule = 0.01,
        momentum: float = 0.0,
        *,
        base_batch: int,
        smoothing: float | None = None,
        name: str = "adascale",
        **others: Any,
    ) -> None:
        _check_covered(others)
        super().__init__(self._at_progress(learning_rate), momentum, name=name)
        self.base_batch = checked_count("base_batch", base_batch)
        self.smoothing = (
            None if smoothing is None else checked_smoothing(smoothing)
        )
        self._has_observed = False

    @property
    def learning_rate(self) -> Any:
        """The rate for the base batch, at the present step."""
        return super().learning_rate

    @learning_rate.setter
    def learning_rate(self, rate: float | LearningRateSchedule) -> None:
        keras.optimizers.SGD.learning_rate.fset(self, self._at_progress(rate))

    def build(self, variables: list[keras.Variable]) -> None:
        """Creates the velocities, the averages and the two counters."""
        if self.built:
            return
        self._averages = self._state((4,), "float32", "averages")
        self.gain = self._state((), "float32", "gain")
        self.scale_invariant_steps = self._state(
            (), "float64", "scale_invariant_steps"
        )
        super().build(variables)

    def observe(self, moments: Moments) -> None:
        """Takes the moments of an update that is about to be made.

        Called by `tfdp.DistributedOptimizer`, in replica context.

        Args:
            moments: Noise and signal in the gradients behind the update.
        """
        self._has_observed = True
        scale = moments.samples / self.base_batch
        smoothing = self.smoothing
        if smoothing is None:
            smoothing = tf.maximum(1 - scale / 1000, 0)
        averages = MovingAverage(self._averages)
        averages.add(moments, smoothing)
        noise, signal, _ = averages.read()
        self.gain.assign(gain(noise / self.base_batch, signal, scale))

    def apply(self, grads: Any, trainable_variables: Any | None = None) -> None:
        """Makes the update that was observed.

        Raises:
            RuntimeError: If it was not, as without a `DistributedOptimizer`.
        """
        if not self._has_observed:
            raise RuntimeError(
                "`AdaScale` must be told of the gradients of all replicas. "
                "Received: an update by AdaScale itself. Compile with "
                "`tfdp.DistributedOptimizer(tfdp.AdaScale(...))`."
            )
        super().apply(grads, trainable_variables)
        self.scale_invariant_steps.assign_add(
            tf.cast(self.gain.value, tf.float64)
        )

    def update_step(
        self, gradient: Any, variable: keras.Variable, learning_rate: Any
    ) -> None:
        """Moves one variable, by the gain times the rate."""
        rate = self.gain.value * tf.cast(learning_rate, tf.float32)
        super().update_step(gradient, variable, rate)

    def rate_of_last_update(self) -> float:
        """Returns the rate for the base batch, at the step of the last update.

        Returns:
            What the last update has multiplied by its gain; before the first,
            the rate of that.
        """
        rate = keras_optimizers.given_rate(self)
        if not isinstance(rate, _AtProgress):
            return float(rate)
        steps = 0.0
        if self.built:
            steps = self.scale_invariant_steps.numpy() - self.gain.numpy()
        return float(rate.schedule(tf.constant(math.floor(steps), tf.int64)))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments, a schedule serialised."""
        rate = keras_optimizers.given_rate(self)
        if isinstance(rate, _AtProgress):
            rate = keras.saving.serialize_keras_object(rate.schedule)
        return {
            "learning_rate": rate,
            "momentum": self.momentum,
            "base_batch": self.base_batch,
            "smoothing": self.smoothing,
            "name": self.name,
        }

    def _at_progress(self, rate: Any) -> Any:
        if isinstance(rate, _AtProgress):
            rate = rate.schedule
        if isinstance(rate, LearningRateSchedule):
            return _AtProgress(rate, self)
        if callable(rate) and not isinstance(rate, keras.Variable):
            raise TypeError(
                "`learning_rate` must be a number or a `LearningRateSchedule`. "
                f"Received: learning_rate={rate!r} ({type(rate).__name__}). "
                "Write the function as a schedule."
            )
        return rate

    def _state(
        self, shape: tuple[int, ...], dtype: str, name: str
    ) -> keras.Variable:
        return self.add_variable(
            shape, dtype=dtype, aggregation="only_first_replica", name=name
        )


def gain(
    base_variance: tf.Tensor, signal: tf.Tensor, scale: tf.Tensor
) -> tf.Tensor:
    """Returns how many updates with the base batch an update is worth.

    Args:
        base_variance: Scalar; variance of the mean gradient of a base batch,
            not negative.
        signal: Scalar; squared norm of the expected gradient, not negative.
        scale: Scalar; the batch over the base batch.

    Returns:
        Scalar between 1, without noise, and `scale`, without signal.

    Example:

    >>> float(gain(tf.constant(8.0), tf.constant(2.0), tf.constant(4.0)))
    2.5

    Reference:
        Johnson et al., 2020, section 3. https://arxiv.org/abs/2007.05105
    """
    reduced = base_variance / scale + signal
    return tf.where(reduced > 0, (base_variance + signal) / reduced, 1.0)


class _AtProgress(LearningRateSchedule):
    """A schedule, at the steps that an AdaScale has come to."""

    def __init__(
        self, schedule: LearningRateSchedule, optimizer: AdaScale
    ) -> None:
        self.schedule = schedule
        self._optimizer = optimizer

    def __call__(self, step: Any) -> Any:
        optimizer = self._optimizer
        if not optimizer.built:
            return self.schedule(step)
        steps = optimizer.scale_invariant_steps.value
        return self.schedule(tf.cast(tf.floor(steps), tf.int64))


def _check_covered(others: dict[str, Any]) -> None:
    for name, value in others.items():
        if name not in _NOT_COVERED:
            raise TypeError(
                "`AdaScale` takes learning_rate, momentum, base_batch, "
                f"smoothing and name. Received: {name}={value!r}. What scales "
                "the loss or accumulates is given to `DistributedOptimizer`."
            )
        if value:
            raise ValueError(
                f"`AdaScale` is not defined with `{name}`. "
                f"Received: {name}={value!r}. {_NOT_COVERED[name]}."
            )
