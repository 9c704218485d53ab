"""What an update costs on more workers than were measured.

With `p` replicas on `n > 1` workers and `K` micro-batches, an update takes

    T = K own + (K + 1) 2 (p - 1) latency
        + 2 (p - 1) / p * bytes / bandwidth + jitter m(p) sqrt(K)

- `own`: what each replica does by itself for a micro-batch.
- A ring all-reduce of `bytes` takes `2 (p - 1)` messages after each other, of
  `bytes / p` each (Patarasuk and Yuan, 2009; Thakur et al., 2005). An update
  has `K + 1` of them: one of all gradients, and for each micro-batch one of
  logs and votes, which is so small that latency is all it costs.
- `m(p)`: expected maximum of `p` standard normals (Blom, 1958). All wait for
  the slowest; times vary by `jitter` around their mean, each for itself, so
  that over `K` micro-batches they vary by `sqrt(K)` times as much.

One worker takes `K alone`. What a message costs is measured by a vote apart
from steps, which takes `start + 2 (p - 1) latency`. No TensorFlow, no clock.

References:
    Patarasuk, Yuan, 2009: Bandwidth optimal all-reduce algorithms for clusters
    of workstations. https://doi.org/10.1016/j.jpdc.2008.09.002
    Thakur, Rabenseifner, Gropp, 2005: Optimization of collective
    communication operations in MPICH.
    https://doi.org/10.1177/1094342005051521
    Blom, 1958: Statistical estimates and transformed beta-variables.
"""

import dataclasses
import math
import statistics
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Point:
    """What was measured with some number of workers, per update.

    Seconds are means over the replicas; but for a vote, which is made to be
    measured, all parts add up to the whole.

    Attributes:
        workers: Number of workers.
        replicas: Number of replicas of all workers.
        accumulation_steps: Micro-batches of an update.
        samples: Samples of all replicas.
        own: Seconds that a replica works by itself.
        waiting: Seconds that it waits for the slowest.
        communication: Seconds of reducing gradients.
        voting: Seconds of a vote, apart from steps.
        gradient_bytes: Size of what is reduced.
    """

    workers: int
    replicas: int
    accumulation_steps: int
    samples: float
    own: float
    waiting: float
    communication: float
    voting: float
    gradient_bytes: int

    @property
    def seconds(self) -> float:
        """Time of an update."""
        return self.own + self.waiting + self.communication

    @property
    def samples_per_second(self) -> float:
        """Of all replicas."""
        return self.samples / self.seconds

    @property
    def per_replica_batch(self) -> float:
        """Samples of a replica in a micro-batch."""
        return self.samples / (self.replicas * self.accumulation_steps)


@dataclasses.dataclass(frozen=True)
class CostModel:
    """The time of an update for any number of workers.

    Attributes:
        alone: Seconds of one worker for a micro-batch, all of it.
        own: Seconds of a replica by itself for a micro-batch, where there are
            several workers.
        latency: Seconds of a message without content.
        start: Seconds of a vote, whatever the number of replicas.
        seconds_per_byte: What each byte of a message adds; 1 / bandwidth.
        jitter: Seconds by which micro-batches vary from replica to replica;
            one standard deviation.
        gradient_bytes: Size of what is reduced.
        replicas_per_worker: Number of replicas of each worker.

    Example:

    >>> model = CostModel(
    ...     alone=0.1,
    ...     own=0.1,
    ...     latency=50e-6,
    ...     seconds_per_byte=8 / 10e9,
    ...     jitter=0.0,
    ...     gradient_bytes=100_000_000,
    ... )
    >>> for workers in (8, 64):
    ...     steps = model.smallest_accumulation(workers, efficiency=0.9)
    ...     print(f"{model.efficiency(workers, 1):.2f} {steps}")
    0.41 14
    0.37 35
    """

    alone: float
    own: float
    latency: float
    seconds_per_byte: float
    jitter: float
    gradient_bytes: int
    replicas_per_worker: int = 1
    start: float = 0.0

    @classmethod
    def fit(cls, points: Sequence[Point]) -> "CostModel":
        """Fits all parameters to what was measured.

        Votes and gradients, which differ in size, tell latency and bandwidth
        apart at a single number of workers. What a vote costs at any number
        needs two numbers above 1, and is otherwise taken for latency. They
        are fitted by least squares of the relative errors, none below 0.

        Args:
            points: One for 1 worker, and one or more for several.

        Returns:
            The model.

        Raises:
            ValueError: If there are points missing, or an update of theirs
                took no time.
        """
        ones = [point for point in points if point.workers == 1]
        several = [point for point in points if point.workers > 1]
        if not ones or not several:
            raise ValueError(
                "A cost model must be fitted to 1 worker and to several. "
                f"Received: measurements of {_listed(points)}. Measure 1 and "
                "at least one larger number."
            )
        for point in points:
            if not 0 < point.seconds < math.inf:
                raise ValueError(
                    "An update must take some time. Received: "
                    f"{point.seconds} s with {point.workers} worker(s). "
                    "Measure more updates."
                )
        start, latency, seconds_per_byte = _communication(several)
        return cls(
            alone=statistics.fmean(
                point.seconds / point.accumulation_steps for point in ones
            ),
            own=statistics.fmean(
                max(
                    point.own / point.accumulation_steps
                    - 2 * (point.replicas - 1) * latency,
                    0.0,
                )
                for point in several
            ),
            latency=latency,
            start=start,
            seconds_per_byte=seconds_per_byte,
            jitter=_slope(
                [
                    (
                        expected_maximum(point.replicas)
                        * math.sqrt(point.accumulation_steps),
                        point.waiting,
                    )
                    for point in several
                ]
            ),
            gradient_bytes=several[-1].gradient_bytes,
            replicas_per_worker=several[-1].replicas // several[-1].workers,
        )

    def update_seconds(self, workers: int, accumulation_steps: int) -> float:
        """Returns the time of an update.

        Args:
            workers: Number of workers.
            accumulation_steps: Micro-batches of an update.
        """
        if workers == 1:
            return accumulation_steps * self.alone
        per_batch, per_root, per_update = self._costs(workers)
        return (
            accumulation_steps * per_batch
            + math.sqrt(accumulation_steps) * per_root
            + per_update
        )

    def efficiency(self, workers: int, accumulation_steps: int) -> float:
        """Returns the rate of a replica, over that with one worker.

        Args:
            workers: Number of workers.
            accumulation_steps: Micro-batches of an update.
        """
        alone = accumulation_steps * self.alone
        return alone / self.update_seconds(workers, accumulation_steps)

    def smallest_accumulation(
        self, workers: int, *, efficiency: float
    ) -> int | None:
        """Returns the smallest accumulation for some efficiency.

        Args:
            workers: Number of workers.
            efficiency: What is to be reached; above 0, at most 1.

        Returns:
            Micro-batches of an update; `None` where none are enough, because
            what each of them costs is too much already.

        Raises:
            ValueError: If `efficiency` is out of range.
        """
        if not 0 < efficiency <= 1:
            raise ValueError(
                "`efficiency` must be above 0 and at most 1. Received: "
                f"efficiency={efficiency}. Use 0.9 for 90 %."
            )
        if workers == 1:
            return 1
        per_batch, per_root, per_update = self._costs(workers)
        spare = self.alone / efficiency - per_batch
        if spare <= 0:
            return None
        # spare K = per_root sqrt(K) + per_update, for sqrt(K).
        root = math.sqrt(per_root**2 + 4 * spare * per_update)
        exact = ((per_root + root) / (2 * spare)) ** 2
        # Rounding may put a whole number just above itself.
        return max(math.ceil(exact * (1 - 1e-12)), 1)

    def _costs(self, workers: int) -> tuple[float, float, float]:
        """Returns what goes with `K`, with its root, and with neither."""
        replicas = workers * self.replicas_per_worker
        messages = 2 * (replicas - 1)
        message = messages * self.latency
        volume = messages / replicas * self.gradient_bytes
        return (
            self.own + message,
            self.jitter * expected_maximum(replicas),
            message + volume * self.seconds_per_byte,
        )


def left_out_errors(points: Sequence[Point]) -> dict[int, float]:
    """Predicts each number of workers from the others.

    One worker is never left out, and one number above it must remain: two
    above 1 are the fewest that can be validated.

    Args:
        points: What was measured.

    Returns:
        Relative error of the predicted time of an update, by the number of
        workers that was left out; empty where there are too few.

    Raises:
        ValueError: As in `CostModel.fit`.
    """
    several = sorted({point.workers for point in points if point.workers > 1})
    if len(several) < 2:
        return {}
    errors = {}
    for workers in several:
        model = CostModel.fit([p for p in points if p.workers != workers])
        errors[workers] = statistics.fmean(
            model.update_seconds(workers, point.accumulation_steps)
            / point.seconds
            - 1
            for point in points
            if point.workers == workers
        )
    return errors


def expected_maximum(count: int) -> float:
    """Returns Blom's estimate of the largest of `count` standard normals.

    Args:
        count: At least 1.

    Example:

    >>> [round(expected_maximum(n), 2) for n in (1, 2, 8, 512)]
    [0.0, 0.59, 1.43, 3.03]
    """
    place = (count - 0.375) / (count + 0.25)
    return statistics.NormalDist().inv_cdf(place)


def _communication(points: Sequence[Point]) -> tuple[float, float, float]:
    """Returns start, latency, and seconds per byte."""
    rows: list[tuple[float, float, float]] = []
    seconds = []
    for point in points:
        messages = 2 * (point.replicas - 1)
        volume = messages / point.replicas * point.gradient_bytes
        rows += [(1, messages, 0), (0, messages, volume)]
        seconds += [point.voting, point.communication]
    is_start_known = len({point.replicas for point in points}) > 1
    columns = [0, 1, 2] if is_start_known else [1, 2]
    is_measured = np.array(seconds) > 0
    fitted = _non_negative_fit(
        np.array(rows)[is_measured], np.array(seconds)[is_measured], columns
    )
    start, latency, seconds_per_byte = fitted.tolist()
    return start, latency, seconds_per_byte


def _non_negative_fit(
    rows: np.ndarray, values: np.ndarray, columns: Sequence[int]
) -> np.ndarray:
    """Fits `rows @ x` to values, with only these columns of `x` above 0."""
    from scipy import optimize

    scaled = rows[:, columns] / values[:, np.newaxis]
    size = np.abs(scaled).max(axis=0, initial=1e-300)
    fitted = np.zeros(rows.shape[1])
    fitted[list(columns)], _ = optimize.nnls(
        scaled / size, np.ones(len(values))
    )
    fitted[list(columns)] /= size
    return fitted


def _slope(pairs: Sequence[tuple[float, float]]) -> float:
    """Fits `y = a x`."""
    return math.fsum(x * y for x, y in pairs) / math.fsum(
        x * x for x, _ in pairs
    )


def _listed(points: Sequence[Point]) -> str:
    return ", ".join(str(p.workers) for p in points) or "no"
