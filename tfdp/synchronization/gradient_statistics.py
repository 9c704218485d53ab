"""How far gradients of parts of a batch scatter around their mean.

Every replica and micro-batch contributes the mean gradient g of its samples.
Two contributions differ by noise alone, so that the scatter of all of them
tells noise from signal. What it takes of each is its squared norm, a number
that travels with the gradients.
"""

import numbers
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfdp.step import (
    Gradient,
    LossWeight,
    deduplicated,
    gradients_mix,
    local_samples,
)


class Moments(NamedTuple):
    """Noise and signal in the gradients behind one update.

    Attributes:
        noise: Scalar float32; estimate of the trace of the covariance matrix
            of one sample's gradient.
        signal: Scalar float32; estimate of the squared norm of the expected
            gradient. Both are without bias, and so may be negative.
        samples: Scalar float32; samples behind the update.
        is_known: Scalar bool; whether at least two contributions were there
            to compare, their norms are finite, and none was missed.
    """

    noise: tf.Tensor
    signal: tf.Tensor
    samples: tf.Tensor
    is_known: tf.Tensor


def scatter(gradients: Sequence[Gradient], weight: LossWeight) -> tf.Tensor:
    """Returns what one contribution adds to the sums that moments are of.

    Called in replica context, in a strategy's `run`.

    Args:
        gradients: Mean gradients of this replica's samples, times `weight`.
        weight: The weight of these gradients.

    Returns:
        Float32 of shape `[4]`: squared norm of the mean gradient times its
        weight; number of contributions, 1 or 0; samples; the weight.

    Raises:
        ValueError: If the gradient is not the mean of independent samples'.
    """
    received = None
    if gradients_mix():
        received = (
            "a synchronized BatchNormalization, or `tfdp.gather`. Use "
            "synchronized=False"
        )
    elif weight.adds:
        received = "a loss that is a sum. Use a mean over samples"
    elif weight.spans_micro_batch:
        received = "a loss of the whole batch. Use a mean over samples"
    if received:
        raise ValueError(
            "Noise in gradients is told from the means over parts of a "
            f"batch. Received: {received}, or leave out AdaScale and "
            "callbacks.NoiseScaleMonitor."
        )
    value = tf.cast(weight.value, tf.float32)
    return tf.stack(
        [
            tf.math.divide_no_nan(squared_norm(gradients), value),
            tf.cast(value > 0, tf.float32),
            tf.cast(local_samples(), tf.float32),
            value,
        ]
    )


def moments(
    scattered: tf.Tensor, weight: tf.Tensor, means: Sequence[Gradient]
) -> Moments:
    """Tells noise from signal.

    With n contributions of weights w, their sum W, and the mean gradient G of
    all, the expectation of the sum of w |g|^2 less W |G|^2 is n - 1 times the
    noise of weight one, whatever the weights.

    Args:
        scattered: Sum of `scatter` over all contributions.
        weight: Sum of their weights; scalar float32.
        means: The mean gradients of all.

    Returns:
        The moments of this update.

    Reference:
        McCandlish et al., 2018, appendix A.1, equations A.2 and A.3, here for
        contributions of any sizes. https://arxiv.org/abs/1812.06162
    """
    total, count, samples, covered = tf.unstack(tf.cast(scattered, tf.float32))
    weight = tf.cast(weight, tf.float32)
    norm = squared_norm(means)
    variance_of_mean = tf.math.divide_no_nan(
        total - weight * norm, (count - 1) * weight
    )
    return Moments(
        noise=variance_of_mean * samples,
        signal=norm - variance_of_mean,
        samples=samples,
        # A cycle that began before it was measured is covered in part.
        is_known=(count > 1)
        & (tf.abs(covered - weight) <= 1e-3 * weight)
        & tf.math.is_finite(variance_of_mean)
        & tf.math.is_finite(norm),
    )


def unscaled_moments(found: Moments | None, scale: tf.Tensor) -> Moments | None:
    """Returns the moments of gradients that were `scale` times too large."""
    if found is None:
        return None
    noise, signal = found.noise / scale / scale, found.signal / scale / scale
    return Moments(noise, signal, found.samples, found.is_known)


def checked_smoothing(smoothing: Any) -> float:
    """Returns the weight of the past in an average, after checking it.

    Args:
        smoothing: A number in `[0, 1)`.

    Raises:
        TypeError: If it is not a number.
        ValueError: If it is out of range.
    """
    if isinstance(smoothing, bool) or not isinstance(smoothing, numbers.Real):
        raise TypeError(
            "`smoothing` must be a number in the range [0, 1). Received: "
            f"smoothing={smoothing!r} ({type(smoothing).__name__})."
        )
    if not 0 <= smoothing < 1:  # type: ignore[operator]
        raise ValueError(
            "`smoothing` must be in the range [0, 1), where 0 keeps the last "
            f"update only. Received: smoothing={smoothing}."
        )
    return float(smoothing)


def check_comparable(num_replicas: int, accumulation_steps: int) -> None:
    """Checks that an update has several gradients to compare.

    Args:
        num_replicas: Replicas over all workers.
        accumulation_steps: Micro-batches per update.

    Raises:
        RuntimeError: If it has only one.
    """
    if num_replicas * accumulation_steps == 1:
        raise RuntimeError(
            "Noise in gradients is told from at least two per update. "
            "Received: one replica and accumulation_steps=1, for AdaScale or "
            "callbacks.NoiseScaleMonitor. Halve the per-replica batch and use "
            "accumulation_steps=2, or more replicas."
        )


def squared_norm(gradients: Sequence[Gradient]) -> tf.Tensor:
    """Returns the sum of the squares of all values, in float32."""
    values = [
        gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient
        for gradient in map(deduplicated, gradients)
    ]
    return 2 * tf.add_n([tf.nn.l2_loss(tf.cast(v, tf.float32)) for v in values])


class MovingAverage:
    """Averages moments over updates.

    The first updates are averaged alike, until the newest would weigh less
    than `1 - smoothing`; from then on it weighs that much.

    Args:
        variable: Float32 variable of shape `[4]`, zeros; it will hold the
            mean noise, signal and samples, and the number of updates.

    Reference:
        Johnson et al., 2020, appendix B.3. https://arxiv.org/abs/2007.05105
    """

    def __init__(self, variable: keras.Variable) -> None:
        self._variable = variable

    def add(self, new: Moments, smoothing: float | tf.Tensor) -> None:
        """Takes the moments of one update, unless they are not known.

        Args:
            new: Moments of the update.
            smoothing: Weight of the past, in `[0, 1)`.
        """
        means = self._variable.value[:3]
        count = self._variable.value[3] + 1
        share = tf.maximum(1 / count, 1 - smoothing)
        means += share * (tf.stack(new[:3]) - means)
        averaged = tf.concat([means, [count]], axis=0)
        self._variable.assign(
            tf.where(new.is_known, averaged, self._variable.value)
        )

    def read(self) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns mean noise, signal and samples, of which none is negative."""
        return tuple(tf.unstack(tf.nn.relu(self._variable.value[:3])))
