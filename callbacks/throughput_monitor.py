"""Samples per second, as measured on every worker and replica."""

import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tfdp.agreement import all_gather
from tfdp.batch import checked_count
from tfdp.data_parallel_strategy import DataParallelStrategy
from tfdp.optimizer import DistributedOptimizer
from tfdp.throughput import Rates


class ThroughputMonitor(keras.callbacks.Callback):
    """Measures samples per second: of all, of each worker, of each replica.

    A rate is the samples that `tfdp.DistributedOptimizer` has counted over
    the time between the begin and the end of the training steps that they
    went through. Waiting for the next batch is in that time; starting an
    epoch's iterator, validation, saving and the callbacks that come after
    this one are not. At the end of an epoch the workers tell each other their
    numbers, so that all have the same logs:

    | Key                              | Unit | Value                         |
    | -------------------------------- | ---- | ----------------------------- |
    | `samples_per_second`             | 1/s  | of all, by the longest time   |
    | `worker_{i}_samples_per_second`  | 1/s  | of worker i, by its own time  |
    | `replica_{i}_samples_per_second` | 1/s  | of replica i, by its worker's |
    | `replica_samples_per_second`     | 1/s  | median of the replicas' rates |
    | `worker_skew`                    | 1    | longest / median time         |

    Replicas are numbered through all workers. Lightning and Composer call the
    first key `samples_per_sec`, and the fourth `device/samples_per_sec`.

    The first updates of a fit, in which TensorFlow traces and compiles, are
    left out. An epoch that has no others logs NaN: a figure with tracing in it
    would mislead, and a key that the first epoch lacks would be missing from
    all of a `CSVLogger`'s file.

    Workers wait for each other inside of a step, so that one that computes
    slowly slows down all alike. A `worker_skew` above 1 means that a worker is
    kept busy between its steps, while the others wait in theirs.

    Put it after `callbacks.DataParallel()` and before the callbacks that read
    logs.

    Args:
        warmup_updates: Updates to leave out at the begin of each fit, counted
            as `accumulation_steps` micro-batches each; an integer of at least
            0. Defaults to 1.
        verbose: 1 to print a line per epoch, on the chief; 0 to print nothing.
            Defaults to 1.
        clock: Returns the time in seconds. Defaults to `time.perf_counter`.

    Raises:
        TypeError: If `warmup_updates` is not an integer.
        ValueError: If `warmup_updates` is negative.
        RuntimeError: In training, if samples are not counted, because the
            optimizer or the strategy is not one of tfdp's, or because steps
            do not update with the optimizer.

    Example:

    >>> monitor = tfdp.callbacks.ThroughputMonitor(warmup_updates=10)
    >>> callbacks = [tfdp.callbacks.DataParallel(), monitor]
    """

    def __init__(
        self,
        *,
        warmup_updates: int = 1,
        verbose: int = 1,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        super().__init__()
        self.warmup_updates = checked_count(
            "warmup_updates", warmup_updates, minimum=0
        )
        self.verbose = verbose
        self._clock = clock
        self._rates: Rates | None = None

    @property
    def rates(self) -> Rates:
        """Rates over all epochs of the last fit, without its warm-up.

        Raises:
            RuntimeError: If no epoch has ended yet.
        """
        if self._rates is None:
            raise RuntimeError(
                "`rates` must be read after an epoch has ended. Received: a "
                "ThroughputMonitor that has seen none. Give it to `fit` as "
                "one of `callbacks=[...]` first."
            )
        return self._rates

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks that samples are counted."""
        _check_counted(self.model)
        self._rates = None
        self._report = ""
        self._warmup_left = (
            self.warmup_updates * self.model.optimizer.accumulation_steps
        )

    def on_epoch_begin(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Starts to measure, unless warming up."""
        self._print_report()
        self._seconds = 0.0
        self._start = self._counts()

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Takes the time."""
        self._first_batch = batch
        self._step_start = self._clock()

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Takes the time, and starts to measure where this ends the warm-up."""
        seconds = self._clock() - self._step_start
        if self._warmup_left > 0:
            self._warmup_left -= batch - self._first_batch + 1
            self._start = self._counts()
        else:
            self._seconds += seconds

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Exchanges what was measured, and logs it."""
        counts = self._counts()
        if not self._seconds:
            # An update that a flush has made of warm-up is not measured.
            self._start = counts
        rates = self._gathered(counts - self._start)
        if max(rates.seconds) and not sum(map(sum, rates.samples)):
            raise RuntimeError(
                "Each step must update with the model's "
                "DistributedOptimizer, which counts samples. Received: an "
                "epoch that trained on none. Call "
                "`self.optimizer.apply_gradients(...)` in `train_step`."
            )
        self._rates = self._rates + rates if self._rates else rates
        if logs is not None:
            logs.update(rates.as_logs())
        found = str(rates) if max(rates.seconds) else "all of it was warm-up"
        self._report = f"epoch {epoch + 1}: {found}"

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Prints the last epoch's line."""
        self._print_report()

    def _counts(self) -> np.ndarray:
        optimizer = self.model.optimizer
        updates = optimizer.iterations.numpy() + (
            optimizer.skipped_updates.numpy()
        )
        return np.array([updates, *optimizer.samples_by_replica()])

    def _gathered(self, counts: np.ndarray) -> Rates:
        strategy = self.model.distribute_strategy
        table = all_gather(strategy, [self._seconds, *counts]).tolist()
        return Rates(
            seconds=tuple(row[0] for row in table),
            samples=tuple(tuple(map(int, row[2:])) for row in table),
            updates=int(table[0][1]),
        )

    def _print_report(self) -> None:
        # Only now has the progress bar ended the epoch's line.
        is_chief = self.model.distribute_strategy.is_chief
        if self._report and self.verbose and is_chief:
            print(self._report, flush=True)
        self._report = ""


def _check_counted(model: keras.Model) -> None:
    if not isinstance(model.optimizer, DistributedOptimizer):
        raise RuntimeError(
            "`callbacks.ThroughputMonitor` needs an optimizer that counts "
            f"samples. Received: {type(model.optimizer).__name__}. Compile "
            "with `tfdp.DistributedOptimizer(inner_optimizer)`."
        )
    strategy = model.distribute_strategy
    if not isinstance(strategy, DataParallelStrategy):
        raise RuntimeError(
            "`callbacks.ThroughputMonitor` needs a strategy that counts "
            f"samples. Received: {type(strategy).__name__}. Build and "
            "compile the model in the scope of a tfdp strategy; "
            "`tfdp.auto_strategy()` returns one for any number of devices."
        )
