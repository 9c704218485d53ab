"""What a self-test has found: arithmetic and words, no TensorFlow."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

# Of SGD with momentum; see docs/ideas/exactness.md.
TOLERANCE = 1e-6
MEBIBYTE = 2**20


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a self-test has found; `str()` is the report.

    Attributes:
        deviations: Largest deviation of a weight from those of plain Keras on
            one device, by worker.
        num_replicas: Number of replicas on all workers.
        samples_per_second: Rate of the training, of all replicas together.
        all_reduce_seconds: Median time of an all-reduce, by the bytes of its
            tensor; empty for one replica.

    Example:

    >>> outcome = Outcome(
    ...     (3e-8, 3e-8),
    ...     num_replicas=2,
    ...     samples_per_second=5000,
    ...     all_reduce_seconds={4 * MEBIBYTE: 0.01},
    ... )
    >>> print(outcome)
    weights: deviate by 3e-08 at most from one device (tolerance 1e-06)
    training: 5,000 samples/s on 2 replicas, of a network that is all overhead
    all-reduce of 4 MiB of float32: 10.0 ms, 419 MB of the tensor per second
    passed
    """

    deviations: Sequence[float]
    num_replicas: int
    samples_per_second: float
    all_reduce_seconds: Mapping[int, float]

    @property
    def failed_workers(self) -> list[int]:
        """Workers whose weights are not those of one device."""
        # In these words one whose weights are NaN has failed too.
        return [
            worker
            for worker, deviation in enumerate(self.deviations)
            if not deviation <= TOLERANCE
        ]

    @property
    def passed(self) -> bool:
        """Whether every worker has the weights of one device."""
        return not self.failed_workers

    def __str__(self) -> str:
        """Says what was found, and whether it is as it should be."""
        largest = float(np.max(self.deviations))
        replicas = f"{self.num_replicas} replica"
        lines = [
            f"weights: deviate by {largest:.2g} at most from one device "
            f"(tolerance {TOLERANCE:g})",
            f"training: {self.samples_per_second:,.0f} samples/s on {replicas}"
            f"{'s' if self.num_replicas > 1 else ''}, of a network that is all "
            "overhead",
        ]
        lines += [
            f"all-reduce of {size / MEBIBYTE:g} MiB of float32: "
            f"{seconds * 1e3:.1f} ms, {size / seconds / 1e6:,.0f} MB of the "
            "tensor per second"
            for size, seconds in self.all_reduce_seconds.items()
        ]
        if self.passed:
            return "\n".join([*lines, "passed"])
        names = ", ".join(map(str, self.failed_workers))
        return "\n".join([*lines, f"failed on worker {names}"])


def weight_deviation(
    actual: Sequence[np.ndarray], expected: Sequence[np.ndarray]
) -> float:
    """Returns the largest difference of weights, relative where they exceed 1.

    Args:
        actual: Weights of a model.
        expected: Those that they should be.

    Returns:
        The largest of |actual - expected| / max(1, |expected|); NaN where a
        weight is no number.

    Example:

    >>> weight_deviation([np.array([2.0, 10.0])], [np.array([2.0, 8.0])])
    0.25
    """
    return float(
        np.max(
            [
                np.max(np.abs(a - e) / np.maximum(1, np.abs(e)))
                for a, e in zip(actual, expected, strict=True)
            ]
        )
    )
