"""What was measured over a stretch of updates, on all workers."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfdp.throughput.breakdown import Breakdown
from tfdp.throughput.rates import Rates
from tfdp.throughput.step_times import StepTimes


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes in use at the end of a window.

    Attributes:
        by_worker: Resident memory of each process.
        by_replica: Largest use of each replica's device so far; NaN for a
            processor, which all replicas of a process share.
    """

    by_worker: tuple[float, ...]
    by_replica: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Window:
    """Rates, and where the time went, over some updates of a training.

    Attributes:
        epoch: Index of the epoch.
        update: Updates made at its end, since training began.
        rates: Samples and seconds.
        breakdown: Parts of the seconds.
        steps: `[workers, updates]`; seconds of each update. Of windows that
            were added up, `[1, updates]`: those of the slowest worker.
        memory: Memory in use at its end.
        unit: What a sample is called.
        flops_per_sample: Floating-point operations that training on a sample
            takes; NaN if not known.
        is_bound: Whether devices work asynchronously, so that parts inside of
            a step are those of handing work to them.
    """

    epoch: int
    update: int
    rates: Rates
    breakdown: Breakdown
    steps: np.ndarray
    memory: Memory
    unit: str = "samples"
    flops_per_sample: float = math.nan
    is_bound: bool = False

    @classmethod
    def of(
        cls, workers: Sequence[StepTimes], *, asks: bool = True, **others: Any
    ) -> "Window":
        """Puts together what workers have measured over the same updates.

        Args:
            workers: Times by worker. What one of them has left out, is.
            asks: Whether they ask each other for data before each step.
                Defaults to `True`.
            others: The other attributes.
        """
        if len({each.entries for each in workers}) > 1:
            # The clock of one of them was set while it measured.
            workers = [each.merged() for each in workers]
        is_kept = ~np.any([each.is_left_out for each in workers], axis=0)
        kept = [each.keeping(is_kept) for each in workers]
        updates = kept[0].updates
        return cls(
            rates=Rates(
                seconds=tuple(float(each.seconds.sum()) for each in kept),
                samples=tuple(
                    tuple(map(_whole, each.samples.sum(axis=1).tolist()))
                    for each in kept
                ),
                updates=int(updates.sum()),
            ),
            breakdown=Breakdown.of(kept, asks=asks),
            steps=np.array([each.seconds for each in kept]) / updates,
            **others,
        )

    @property
    def flops_per_second(self) -> float:
        """Floating-point operations per second of all devices."""
        return self.rates.samples_per_second * self.flops_per_sample

    def as_logs(self) -> dict[str, float]:
        """Returns the figures by the names they have in Keras's logs."""
        slowest = self.steps.max(axis=0)
        logs = {
            **self.rates.as_logs(),
            "step_seconds_p50": _percentile(slowest, 50),
            "step_seconds_p95": _percentile(slowest, 95),
            "start_fraction": self.breakdown.share("start"),
            "input_wait_fraction": self.breakdown.share("input"),
            "compute_fraction": self.breakdown.share("compute"),
            "waiting_fraction": self.breakdown.share("waiting"),
            "communication_fraction": self.breakdown.share("communication"),
            "worker_skew": self.breakdown.worker_skew,
            "replica_skew": self.breakdown.skew,
            "memory_bytes": max(self.memory.by_worker),
        }
        if self.breakdown.room:
            logs["room_wait_fraction"] = self.breakdown.share("room")
        if not math.isnan(self.flops_per_sample):
            logs["flops_per_second"] = self.flops_per_second
        return logs

    def scalars(self) -> dict[str, float]:
        """Returns the figures by tags for TensorBoard.

        They are those of Composer and Lightning, where these have them.
        """
        logs, rates = self.as_logs(), self.rates
        replicas = len(rates.by_replica)
        updates = 1 / rates.step_seconds if rates.step_seconds else math.nan
        per_second = f"{self.unit}_per_sec"
        scalars = {
            per_second: rates.samples_per_second,
            f"device/{per_second}": logs["replica_samples_per_second"],
            "batches_per_sec": updates,
            "device/batches_per_sec": updates,
        }
        if "flops_per_second" in logs:
            scalars["flops_per_sec"] = self.flops_per_second
            scalars["device/flops_per_sec"] = self.flops_per_second / replicas
        for kind, of_kind in (
            ("worker", rates.by_worker),
            ("replica", rates.by_replica),
        ):
            for i, rate in enumerate(of_kind):
                scalars[f"{kind}/{i}/{per_second}"] = rate
        for name in (
            *("step_seconds", "step_seconds_p50", "step_seconds_p95"),
            *(n for n in logs if n.endswith(("_fraction", "_skew"))),
        ):
            scalars[name] = logs[name]
        scalars["memory_bytes"] = logs["memory_bytes"]
        return {f"throughput/{tag}": value for tag, value in scalars.items()}

    def rows(self) -> list[dict[str, Any]]:
        """Returns one row per worker, as a run's log has them."""
        rows: list[dict[str, Any]] = []
        first = 0
        for worker, samples in enumerate(self.rates.samples):
            seconds = self.rates.seconds[worker]
            replicas = range(first, first + len(samples))
            first = replicas.stop
            rows.append(
                {
                    "epoch": self.epoch,
                    "update": self.update,
                    "updates": self.rates.updates,
                    "worker": worker,
                    "seconds": seconds,
                    "between_seconds": self.breakdown.between[worker],
                    "voting_seconds": self.breakdown.voting[worker],
                    "held_seconds": self.breakdown.held[worker],
                    "samples": sum(samples),
                    "samples_per_second": self.rates.by_worker[worker],
                    "step_seconds": seconds / self.rates.updates,
                    "step_seconds_p50": _percentile(self.steps[worker], 50),
                    "step_seconds_p95": _percentile(self.steps[worker], 95),
                    "memory_bytes": self.memory.by_worker[worker],
                    "flops_per_second": self.rates.by_worker[worker]
                    * self.flops_per_sample,
                    "bounds": [f"{p}_seconds" for p in self.breakdown.parts]
                    if self.is_bound
                    else [],
                    "replicas": [
                        {
                            "replica": i,
                            "samples": samples[i - replicas.start],
                            "samples_per_second": self.rates.by_replica[i],
                            **{
                                f"{part}_seconds": getattr(
                                    self.breakdown, part
                                )[i]
                                for part in self.breakdown.parts
                            },
                            "memory_bytes": self.memory.by_replica[i],
                        }
                        for i in replicas
                    ],
                }
            )
        return rows

    def __str__(self) -> str:
        if not self.rates.updates:
            return "all of it was warm-up"
        words = self.rates.in_words(self.unit)
        if len(self.rates.by_replica) > 1:
            words += f" | skew {self.breakdown.skew:.2f}"
        return words

    def __add__(self, other: "Window") -> "Window":
        """Returns the window over this one and one that came after it."""
        return dataclasses.replace(
            other,
            rates=self.rates + other.rates,
            breakdown=self.breakdown + other.breakdown,
            # Of all workers it would be much in a long run of many.
            steps=np.hstack(
                [
                    each.steps.max(axis=0, keepdims=True)
                    for each in (self, other)
                ]
            ),
        )


def _whole(number: float) -> float:
    return int(number) if number.is_integer() else number


def _percentile(values: np.ndarray, percent: float) -> float:
    return float(np.percentile(values, percent)) if values.size else math.nan
