"""Samples per second on every replica, and what keeps them from more."""

import math
import time
from collections.abc import Callable
from typing import Any

import keras
import psutil
import tensorflow as tf

from tfdp.agreement import all_gather, gathered_window
from tfdp.backup import is_replaying
from tfdp.callbacks.apart import ExchangeWatch
from tfdp.callbacks.counted_model import (
    all_read_all,
    check_counted,
    check_measure,
    counts_samples,
    no_samples,
    nothing_measured,
)
from tfdp.callbacks.data_parallel import DataParallel
from tfdp.callbacks.feeding import asks_for_data, feed_of_fit
from tfdp.callbacks.progress_bar import show_one_figure
from tfdp.callbacks.timeline import Timeline
from tfdp.checks import checked_count, checked_number, checked_verbose
from tfdp.step import CAPACITY, Settings, StepMeter
from tfdp.throughput import (
    Limit,
    Rates,
    StepLog,
    VoteTimer,
    Window,
    limit,
    print_table,
)
from tfdp.upstream.keras import inspection, keras_fit

_LONGEST_WINDOW = 10_000


class ThroughputMonitor(keras.callbacks.Callback):
    """Measures how fast each replica is, and says what holds it back.

    Time stamps inside of the step tell, for each replica and update, starting
    it, waiting for data, computation, waiting for the slowest replica, and
    communication. Workers measure by their own clocks, of which only
    differences count, and tell each other at the end of each window. At the
    end of an epoch the logs have this, the first of it also Keras's bar:

    | Key                              | Unit | Value                         |
    | -------------------------------- | ---- | ----------------------------- |
    | `samples_per_second`             | 1/s  | of all, by the longest time   |
    | `worker_{i}_samples_per_second`  | 1/s  | of worker i, by its own time  |
    | `replica_{i}_samples_per_second` | 1/s  | of replica i, by its worker's |
    | `replica_samples_per_second`     | 1/s  | median of the replicas' rates |
    | `step_seconds`                   | s    | mean time of an update        |
    | `step_seconds_p50`, `_p95`       | s    | its median, 95th percentile   |
    | `start_fraction`                 | 1    | part of it: until data is due |
    | `input_wait_fraction`            | 1    | until data is there           |
    | `compute_fraction`               | 1    | from data to gradients        |
    | `waiting_fraction`               | 1    | for the slowest replica       |
    | `communication_fraction`         | 1    | reducing gradients            |
    | `worker_skew`, `replica_skew`    | 1    | own time: slowest / median    |
    | `memory_bytes`                   | B    | of the largest process        |
    | `flops_per_second`               | 1/s  | with `flops_per_sample` only  |

    `docs/reference/run_log.md` says how each is computed. Replicas are numbered
    through all workers. Time between steps, validation and saving are in no
    rate; nor are steps in which a graph is made or compiled, nor those of the
    warm-up. An epoch without others logs NaN: a key that the first epoch lacks
    would be missing from all of a `CSVLogger`'s file.

    Asynchronous workers each measure themselves alone, and also log
    `room_wait_fraction`, waiting until a gradient is not too stale,
    `staleness_mean` and `staleness_max` of their own updates, and
    `updates_of_all_workers`. On GPUs, which do not wait for the program, parts
    inside of a step are those of handing work to the device: bounds.

    Put it after `callbacks.DataParallel()`, before whatever else reads logs.

    Args:
        window: Updates to a window, of which `callbacks.RunLogger` writes one
            row per worker; an integer of at least 1. Defaults to 100.
        warmup_updates: Updates to leave out at the begin of each fit, counted
            as `accumulation_steps` micro-batches each; an integer of at least
            0. Defaults to 1.
        samples_fn: What to count instead of samples. Called in the graph as
            the step is, in `fit` with `(x, y)` or `(x, y, sample_weight)` of
            one replica, to return a scalar tensor. Defaults to `None`.
        unit: What that is called in words and tags, such as `"tokens"`.
            Defaults to `"samples"`.
        flops_per_sample: Floating-point operations that training on a sample
            takes, forward and backward. Defaults to `None`: not known.
        verbose: 1 to print a table at the end, on the chief; 2 to print a
            line per epoch too; 0 to print nothing. Defaults to 1.
        clock: Returns the time in seconds; called inside of steps too, which
            takes time. Defaults to `None`: `time.time`, and TensorFlow's.

    Raises:
        TypeError: If a count is not an integer, `flops_per_sample` not a
            number, or `samples_fn` or `clock` cannot be called.
        ValueError: If a count is too small, or `flops_per_sample` is not
            positive and finite.
        RuntimeError: In training, if samples are not counted, because the
            optimizer or the strategy is not one of tfdp's, or because steps
            do not update with the optimizer.

    Example:

    >>> monitor = tfdp.callbacks.ThroughputMonitor(
    ...     samples_fn=lambda data: tf.size(data[0]), unit="tokens"
    ... )
    >>> callbacks = [tfdp.callbacks.DataParallel(), monitor]
    """

    timeline: Timeline  # Who is told of single steps of this fit.
    is_collective = True
    works_apart = True  # Of the one worker, where workers do not meet.

    def __init__(
        self,
        *,
        window: int = 100,
        warmup_updates: int = 1,
        samples_fn: Callable[..., tf.Tensor] | None = None,
        unit: str = "samples",
        flops_per_sample: float | None = None,
        verbose: int = 1,
        clock: Callable[[], float] | None = None,
    ) -> None:
        super().__init__()
        self.window = checked_count("window", window)
        self.warmup_updates = checked_count(
            "warmup_updates", warmup_updates, minimum=0
        )
        check_measure(unit, samples_fn=samples_fn, clock=clock)
        self._flops = math.nan
        if flops_per_sample is not None:
            self._flops = checked_number("flops_per_sample", flops_per_sample)
        self.unit = unit
        self.verbose = checked_verbose(verbose)
        self._measure_by = clock, samples_fn
        self._meter = StepMeter(Settings(*self._measure_by))
        self._process = psutil.Process()
        self._clock = clock or time.time
        self._total: Window | None = None
        self._listeners: list[Callable[[Window], None]] = []

    @property
    def rates(self) -> Rates:
        """Rates over all epochs of the last fit, without its warm-up.

        Raises:
            RuntimeError: If no epoch has ended yet.
        """
        return self.total.rates

    @property
    def total(self) -> Window:
        """All that was measured in the last fit, as one window.

        Raises:
            RuntimeError: If no epoch has ended yet.
        """
        if self._total is None:
            raise nothing_measured()
        return self._total

    def limit(self) -> Limit | None:
        """Returns what limits the speed of the last fit.

        Returns:
            A `tfdp.throughput.limits.Limit`, whose `str` says what to try;
            `None` before an epoch has ended, or where all of it was warm-up.
        """
        if self._total is None:
            return None
        return limit(
            self._total,
            self._cycle,
            self._feed,
            all_read_all=self._all_read_all,
            asynchrony=self._exchanges.of_fit,
        )

    def listen(self, listener: Callable[[Window], None]) -> None:
        """Has `listener` called with each window of this fit.

        For callbacks that come after this one, from their `on_train_begin`.

        Args:
            listener: Called on every worker.
        """
        self._listeners.append(listener)

    def set_model(self, model: keras.Model) -> None:
        """Has the optimizer stamp its steps, before `fit` makes its graph.

        Args:
            model: The compiled model.
        """
        super().set_model(model)
        if counts_samples(model) and self._is_metered():
            # Keras makes it anew.
            model.train_function = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks that samples are counted."""
        check_counted(self.model)
        self._optimizer = optimizer = self.model.optimizer
        self._strategy = strategy = self.model.distribute_strategy
        self._replicas = strategy.num_replicas_in_sync // strategy.num_workers
        self._cycle = optimizer.accumulation_steps
        self._at_once = self.model.steps_per_execution
        self._warmup = self.warmup_updates * self._cycle
        self._measured = 0
        self._is_measured = False
        self._all_read_all = all_read_all(strategy)
        self._log = StepLog(self._replicas)
        self._votes = VoteTimer(self._clock)
        self._meter.start(strategy)
        self._compiling = strategy.compile_times.begin()
        callbacks = keras_fit.callbacks_in_use() or []
        show_one_figure(
            callbacks,
            lambda: self._figures,
            key="samples_per_second",
            name=f"{self.unit}/s",
        )
        for callback in callbacks:
            if isinstance(callback, DataParallel):
                callback.watch_votes(self._votes)
        self._exchanges = ExchangeWatch(strategy)
        self._total, self._report = None, ""
        self._listeners = []
        self.timeline = Timeline(strategy, self._measure_by[0])
        self._figures: dict[str, float] = {}

    def on_epoch_begin(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Begins a window."""
        self._print_report()
        self._epoch = epoch
        self._feed, self._asks = feed_of_fit(), asks_for_data()
        self._update = inspection.updates([self.model.optimizer])
        self._of_epoch: Window | None = None
        self._log.begin_epoch()
        self._votes.take()
        self._exchanges.begin_epoch()
        self._epoch_begin = self._measured
        self._stamped = 0
        # Nobody else would see the end of a window.
        window = self.window if self._listeners else _LONGEST_WINDOW
        wishes = all_gather(self._strategy, [window, *self.timeline.wishes])
        self._agreed_window = int(wishes[:, 0].min())
        self.timeline.begin_epoch(wishes[:, 1:])
        self._plan_reading()
        self._plan_window()

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Takes the time."""
        if self.model.optimizer is not self._optimizer:
            self._change_optimizer()
        if not self._is_measured:
            self._is_measured = not is_replaying(self.model)
        self._made = self._meter.traces + self._compiling.count
        self._number = self.timeline.begin_step()
        self._exchanges.begin_step()
        self._begin = self._clock()

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Takes the time, and ends a window where it is full."""
        end = self._clock()
        if not self._is_measured:
            return
        if not self._measured:
            check_counted(self.model, is_built=True)
        self._log.add_step(
            self._begin,
            end,
            is_left_out=self._measured < self._warmup
            or self._meter.traces + self._compiling.count > self._made,
            voting=self._votes.take(),
            number=self._number,
            **self._exchanges.end_step(),
        )
        self._measured += self._at_once
        if self._measured >= self._read_at:
            self._read()
        if (
            self._measured >= self._window_end
            and (self._measured - self._window_begin) % self._cycle == 0
        ):
            self._end_window(is_whole=False)

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Exchanges what was measured, and logs it."""
        found = self._end_window(is_whole=not self.model.optimizer.is_mid_cycle)
        if self._measured > self._epoch_begin and not self._stamped:
            raise no_samples()
        self._total = self._total + found if self._total else found
        self._figures = self._exchanges.end_epoch() | found.as_logs()
        if logs is not None:
            logs.update(self._figures)
        if self.verbose > 1:
            words = self._exchanges.in_words(self._figures)
            self._report = f"epoch {epoch + 1}: {found}{words}"

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Lets validation alone."""
        self._meter.pause()

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Goes on."""
        self._meter.resume()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Prints the table, after the last epoch's line."""
        self._print_report()
        self._meter.stop()
        self.timeline.end()
        found = self.limit()
        if self.verbose and self._strategy.is_chief and found is not None:
            print_table(self.total, found, self._compiling.in_words())
            self._exchanges.print_table(found)

    def _is_metered(self) -> bool:
        """Returns whether a graph was made that does not stamp its steps."""
        capacity = max(CAPACITY, self.model.steps_per_execution)
        meter = StepMeter(Settings(*self._measure_by, capacity))
        self._meter = self.model.optimizer.measure_time(meter)
        return self._meter.is_missing

    def _change_optimizer(self) -> None:
        """Goes on with another, where the model was compiled again."""
        check_counted(self.model)
        if self._measured > self._window_begin:
            self._end_window(is_whole=True)
        self._meter.stop()
        self._optimizer = self.model.optimizer
        self._cycle = self._optimizer.accumulation_steps
        self._at_once = self.model.steps_per_execution
        self._warmup = self._measured + self.warmup_updates * self._cycle
        if self._is_metered():
            self.model.make_train_function(force=True)
        self._meter.start(self._strategy)
        self._plan_reading()
        self._plan_window()

    def _read(self) -> None:
        stamps = self._meter.read()
        self._stamped += len(stamps[0])
        self._log.add_stamps(stamps, self._meter.requests.read())
        self._plan_reading()

    def _plan_reading(self) -> None:
        capacity = self._meter.settings.capacity
        self._read_at = self._measured + capacity - self._at_once + 1

    def _plan_window(self) -> None:
        self._window_begin = self._measured
        self._window_end = self._measured + self._agreed_window * self._cycle

    def _end_window(self, *, is_whole: bool) -> Window:
        """Returns what the epoch has had so far."""
        self._read()
        self._plan_window()
        times = self._log.take(is_whole=is_whole)
        self._update += int(times.updates.sum())
        window, rows = gathered_window(
            self._strategy,
            times,
            self._process.memory_info().rss,
            self.timeline.take(self._log),
            epoch=self._epoch,
            update=self._update,
            unit=self.unit,
            **{"flops_per_sample": self._flops, "asks": self._asks},
        )
        self._of_epoch = self._of_epoch + window if self._of_epoch else window
        self.timeline.tell(rows)
        if window.rates.updates:
            for listener in self._listeners:
                listener(window)
        return self._of_epoch

    def _print_report(self) -> None:
        # Only now has the progress bar ended the epoch's line.
        if self._report and self._strategy.is_chief:
            print(self._report, flush=True)
        self._report = ""
