"""Arithmetic of the gradient noise scale; no TensorFlow."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class NoiseScale:
    """How large a batch is useful, from the noise in gradients.

    With batches far below the noise scale, half the updates do with twice the
    batch; far above it, twice the batch saves none. At the noise scale itself
    training takes twice the updates, and twice the samples, of what would do
    in the limit of one and of the other.

    Args:
        noise: Trace of the covariance matrix of one sample's gradient.
        signal: Squared norm of the expected gradient.
        global_batch: Samples behind an update, on average.
        accumulation_steps: Micro-batches behind one update.

    Example:

    >>> scale = NoiseScale(
    ...     noise=900.0, signal=0.5, global_batch=600, accumulation_steps=4
    ... )
    >>> scale.samples
    1800.0
    >>> round(scale.updates_with(2), 2), round(scale.samples_with(2), 2)
    (0.62, 1.25)
    >>> print(scale)  # doctest: +NORMALIZE_WHITESPACE
    noise scale 1,800 samples, 3 times the mean global batch of 600: twice
    the replicas would need 38 % fewer updates and 25 % more samples, so more
    replicas still pay. accumulation_steps=4 may grow to 12.

    Reference:
        McCandlish et al., 2018, sections 2.2 and 2.3.
        https://arxiv.org/abs/1812.06162
    """

    noise: float
    signal: float
    global_batch: float
    accumulation_steps: int

    @property
    def samples(self) -> float:
        """The noise scale; infinite without signal, NaN without either."""
        if self.signal > 0:
            return self.noise / self.signal
        return math.inf if self.noise > 0 else math.nan

    def updates_with(self, factor: float) -> float:
        """Returns the updates to the same loss, as a share of the present.

        Args:
            factor: Times the present global batch.
        """
        batch = self.global_batch
        if math.isinf(self.samples):
            return 1 / factor
        return (1 + self.samples / (factor * batch)) / (
            1 + self.samples / batch
        )

    def samples_with(self, factor: float) -> float:
        """Returns the samples to the same loss, as a share of the present.

        Args:
            factor: Times the present global batch.
        """
        return factor * self.updates_with(factor)

    @property
    def useful_accumulation(self) -> int | None:
        """Accumulation for a batch as large as the noise scale, if known."""
        if not math.isfinite(self.samples):
            return None
        micro_batch = self.global_batch / self.accumulation_steps
        return max(1, round(self.samples / micro_batch))

    def __str__(self) -> str:
        """Returns what the noise scale means for this run, in words."""
        if math.isnan(self.samples):
            return (
                "noise scale unknown: no update has had two finite gradients "
                "to compare"
            )
        batch = f"global batch of {_figure(self.global_batch)}"
        if math.isinf(self.samples):
            return (
                f"noise scale too large to tell from a mean {batch}: there is "
                "only noise. Larger batches still pay; average over more "
                "updates to measure it."
            )
        ratio = self.samples / self.global_batch
        return (
            f"noise scale {_figure(self.samples)} samples, {_figure(ratio)} "
            f"times the mean {batch}: twice the replicas would need "
            f"{_percent(1 - self.updates_with(2))} fewer updates and "
            f"{_percent(self.samples_with(2) - 1)} more samples, so more "
            f"replicas {'still' if ratio >= 1 else 'hardly'} pay. "
            f"{self._about_accumulation()}"
        )

    def _about_accumulation(self) -> str:
        present = f"accumulation_steps={self.accumulation_steps}"
        useful = self.useful_accumulation or 1
        if useful > self.accumulation_steps:
            return f"{present} may grow to {useful:,}."
        if useful == self.accumulation_steps:
            return f"{present} is right."
        saved = 1 - self.samples_with(useful / self.accumulation_steps)
        return (
            f"{present} wastes samples: {useful:,} would need "
            f"{_percent(saved)} fewer."
        )


def _figure(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.2g}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
