"""What is measured of updates: their times, their samples, their noise."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from tfdp.optimizer.before_build import NothingCounted
from tfdp.optimizer.noise_scale import NoiseScale
from tfdp.step import Gradient, LossWeight, SampleCounter, StepMeter
from tfdp.strategy import counts_samples, uncounted
from tfdp.synchronization import (
    Moments,
    MovingAverage,
    check_comparable,
    checked_smoothing,
    scatter,
)


class Measurement:
    """What an optimizer measures for callbacks, or for its own update.

    Args:
        strategy: The strategy that the optimizer was created in.
        accumulation_steps: Micro-batches per update.
        feeds_update: Whether the update itself depends on the moments of its
            gradients, as that of `AdaScale` does.

    Attributes:
        meter: Times steps, while it is on; `None` for no meter.
        smoothing: Weight of the past in the averages of noise; `None` where
            nobody asked for them.
        samples: Counts samples by replica, from `build` on.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        accumulation_steps: int,
        *,
        feeds_update: bool,
    ) -> None:
        self.meter: StepMeter | None = None
        self.smoothing: float | None = None
        self._strategy = strategy
        self._steps = accumulation_steps
        self._feeds_update = feeds_update
        self._noise: keras.Variable | None = None
        self.samples: SampleCounter = NothingCounted(strategy)

    def build(self, noise: keras.Variable) -> None:
        """Takes a variable of shape `[4]` for the averages of noise."""
        self._noise = noise
        self.samples = SampleCounter(self._strategy)

    @property
    def wants_moments(self) -> bool:
        """Whether an update is to know how its gradients scatter."""
        return self.smoothing is not None or self._feeds_update

    def time_by(self, meter: StepMeter) -> StepMeter:
        """Takes a new meter, or returns one of the same settings."""
        if self.meter is None or self.meter.settings != meter.settings:
            self.meter = meter
        return self.meter

    def smooth_noise(self, smoothing: float) -> bool:
        """Has noise averaged; returns whether that changes the graph."""
        before, self.smoothing = self.smoothing, checked_smoothing(smoothing)
        try:
            self.check_counted(is_counted=counts_samples(self._strategy))
        except RuntimeError:
            self.smoothing = before
            raise
        return before != self.smoothing

    def scattered(
        self, gradients: Sequence[Gradient], weight: LossWeight
    ) -> tf.Tensor:
        """Returns how weighted gradients scatter; see `scatter`."""
        try:
            return scatter(gradients, weight)
        except ValueError:
            self.smoothing = None
            raise

    def add(self, moments: Moments | None) -> None:
        """Adds those of an update to the averages, if they are wanted."""
        if self.smoothing is not None and moments:
            MovingAverage(self._noise).add(moments, self.smoothing)

    @property
    def noise_scale(self) -> NoiseScale:
        """What the averages say so far."""
        noise = signal = samples = 0.0
        if self._noise is not None:
            noise, signal, samples = self._noise.numpy()[:3].clip(0).tolist()
        return NoiseScale(noise, signal, samples, self._steps)

    def check_counted(self, *, is_counted: bool) -> None:
        """Checks that what is measured, or accumulated, can be.

        Args:
            is_counted: Whether samples are.

        Raises:
            RuntimeError: If they must be and are not, or if there is but one
                gradient to look at.
        """
        measures = self.wants_moments
        if not is_counted and (self._steps > 1 or measures):
            what = f"accumulation_steps={self._steps}"
            if self._steps == 1:
                what = "AdaScale or callbacks.NoiseScaleMonitor"
            raise uncounted(self._strategy, what)
        if is_counted and measures:
            check_comparable(self._strategy.num_replicas_in_sync, self._steps)
