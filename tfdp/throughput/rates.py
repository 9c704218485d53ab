"""Arithmetic from seconds and samples to rates; no TensorFlow, no clock."""

import dataclasses
import math
import statistics
from collections.abc import Sequence

_LONGEST_LIST = 8


@dataclasses.dataclass(frozen=True)
class Rates:
    """Samples per second of a training's workers and replicas.

    Every rate is samples that were counted over seconds that were measured,
    and none is another rate divided by the number of replicas. Where nothing
    was measured, rates are NaN.

    Attributes:
        seconds: Time in training steps, by worker.
        samples: Samples trained on, by worker, and there by replica.
        updates: Weight updates that the samples went into.

    Example:

    >>> rates = Rates(
    ...     seconds=(2.0, 2.5), samples=((600, 600), (500, 500)), updates=10
    ... )
    >>> rates.samples_per_second
    880.0
    >>> rates.by_worker
    (600.0, 400.0)
    >>> print(rates)
    880 samples/s | workers 600 400 | replicas 300 300 200 200
    """

    seconds: tuple[float, ...]
    samples: tuple[tuple[float, ...], ...]
    updates: int

    @property
    def samples_per_second(self) -> float:
        """All samples over the time of the worker that took longest."""
        return _per(sum(map(sum, self.samples)), max(self.seconds))

    @property
    def by_worker(self) -> tuple[float, ...]:
        """Rate of each worker: its replicas' samples over its own time."""
        return tuple(
            _per(sum(samples), seconds)
            for samples, seconds in zip(self.samples, self.seconds, strict=True)
        )

    @property
    def by_replica(self) -> tuple[float, ...]:
        """Rate of each replica, in order of workers, over its worker's time."""
        return tuple(
            _per(of_replica, seconds)
            for samples, seconds in zip(self.samples, self.seconds, strict=True)
            for of_replica in samples
        )

    @property
    def step_seconds(self) -> float:
        """Mean time of an update, on the worker that took longest."""
        return _per(max(self.seconds), self.updates)

    def as_logs(self) -> dict[str, float]:
        """Returns the rates by the names they have in Keras's logs."""
        return {
            "samples_per_second": self.samples_per_second,
            **{
                f"worker_{i}_samples_per_second": rate
                for i, rate in enumerate(self.by_worker)
            },
            **{
                f"replica_{i}_samples_per_second": rate
                for i, rate in enumerate(self.by_replica)
            },
            "replica_samples_per_second": statistics.median(self.by_replica),
            "step_seconds": self.step_seconds,
        }

    def __add__(self, other: "Rates") -> "Rates":
        """Returns the rates over two stretches of the same training."""
        return Rates(
            seconds=tuple(
                a + b for a, b in zip(self.seconds, other.seconds, strict=True)
            ),
            samples=tuple(
                tuple(a + b for a, b in zip(here, there, strict=True))
                for here, there in zip(self.samples, other.samples, strict=True)
            ),
            updates=self.updates + other.updates,
        )

    def __str__(self) -> str:
        return self.in_words("samples")

    def in_words(self, unit: str) -> str:
        """Returns the rates in a line.

        Args:
            unit: What samples are called.
        """
        parts = [f"{_figure(self.samples_per_second)} {unit}/s"]
        if len(self.by_worker) > 1:
            parts.append(f"workers {_listed(self.by_worker)}")
        if len(self.by_replica) > 1:
            parts.append(f"replicas {_listed(self.by_replica)}")
        return " | ".join(parts)


def _per(number: float, unit: float) -> float:
    return number / unit if unit else math.nan


def _listed(rates: Sequence[float]) -> str:
    if len(rates) <= _LONGEST_LIST:
        return " ".join(map(_figure, rates))
    extent = (min(rates), statistics.median(rates), max(rates))
    figures = " / ".join(map(_figure, extent))
    return f"{figures} (min / median / max of {len(rates)})"


def _figure(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
