"""What callbacks ask an optimizer for: samples, times and noise."""

import tensorflow as tf

from tfdp.optimizer.measurement import Measurement
from tfdp.optimizer.noise_scale import NoiseScale
from tfdp.optimizer.shared_out import SharedOut
from tfdp.step import StepMeter


class Measured(SharedOut):
    """An optimizer whose updates can be measured."""

    measurement: Measurement

    @property
    def sample_counter(self) -> tf.Variable:
        """Scalar int64; samples that each replica has trained on."""
        return self.measurement.samples.variable

    def samples_by_replica(self) -> list[int]:
        """Returns how many samples each replica of this worker trained on.

        Returns:
            One count per replica on this worker, since the optimizer was
            built; zeros where the strategy is not one of tfdp's.
        """
        return self.measurement.samples.by_replica()

    def measure_time(self, meter: StepMeter) -> StepMeter:
        """Has steps timed by a meter, while it is on.

        Args:
            meter: A meter that is new.

        Returns:
            It, or one with the same settings that was given before.
        """
        return self.measurement.time_by(meter)

    def measure_noise(self, smoothing: float) -> bool:
        """Has the noise in gradients measured from the next trace on.

        Args:
            smoothing: Weight of the past in the averages, in `[0, 1)`.

        Returns:
            Whether this changes the graph of an update.

        Raises:
            TypeError: If `smoothing` is not a number.
            ValueError: If it is out of range, or if replicas do not meet in
                each update.
            RuntimeError: If samples are not counted, or an update has but one
                gradient to look at.
        """
        self.synchronized_by.refuse("noise_scale", "a NoiseScaleMonitor")
        return self.measurement.smooth_noise(smoothing)

    @property
    def noise_scale(self) -> NoiseScale:
        """What was measured since `measure_noise`; unknown before."""
        return self.measurement.noise_scale
