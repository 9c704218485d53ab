"""A run on disk: what was trained, how it went, and how fast."""

import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

import keras

from tfdp.callbacks.apart import ExchangeWatch
from tfdp.callbacks.backup_and_restore import BackupAndRestore
from tfdp.callbacks.first_word import FirstWord
from tfdp.checks import checked_count
from tfdp.optimizer import UpdateCount
from tfdp.run_log import (
    EventFile,
    RunLog,
    TimeAccount,
    TimelineLog,
    numbers_in,
    opened,
    run_header,
    time_account,
)
from tfdp.throughput import room_words
from tfdp.upstream.keras import keras_fit


class RunLogger(keras.callbacks.Callback):
    """Writes a run to a folder, for `tfdp report` and TensorBoard.

    The chief writes `run.jsonl`, a line for the begin of each fit, one every
    so many updates, one for each worker in each window of a
    `callbacks.ThroughputMonitor`, one for each epoch, in which asynchronous
    workers have one each, and one for the end; see `tfdp.run_log.RunLog` for
    what is in them. A later fit, or one that
    resumes, appends. Beside it lie event files for
    `tensorboard --logdir log_dir`, with the number of updates as steps:

    | Tag            | Value                                                |
    | -------------- | ---------------------------------------------------- |
    | `train/{name}` | logs of the step, which Keras averages since the     |
    |                | epoch began: `train/loss`                            |
    | `epoch/{name}` | logs of the epoch: `epoch/loss`, `epoch/val_loss`    |
    | `{name}`       | figures of monitors: `learning_rate`, `loss_scale`   |
    | `throughput/…` | those of `callbacks.ThroughputMonitor`               |
    | `asynchrony/…` | updates, staleness and waiting of each worker        |

    Beside `callbacks.DataParallel` it also says how the time since the start
    of the process was spent, and under `tfdp launch` the launcher adds when
    workers were started, lost and ended: from this `tfdp report` has the
    goodput.

    Beside a `callbacks.ThroughputMonitor` single steps of all workers are in
    `timeline.jsonl`, for `tfdp report --timeline`.

    Put it after all monitors of `tfdp.callbacks`, whose figures it writes, and
    not into `callbacks.ChiefOnly`: it keeps to the chief by itself.

    Args:
        log_dir: Folder of the run; made where it is missing. On the chief's
            machine, or where every machine sees it.
        every: Updates between two lines of figures, skipped updates included;
            an integer of at least 1. The figures are read from the device
            then, and not in between. Defaults to 100.
        tensorboard: Whether to write events; `"auto"` for where TensorFlow
            can. It needs no `tensorboard` for that, up to version 2.21 at
            least. Defaults to `"auto"`.
        timeline: How many steps are told of one by one at the begin of each
            fit, and then every how many; an integer, 0 for no timeline.
            Defaults to 100.
        clock: Returns the time in seconds since 1970. Defaults to
            `time.time`.

    Raises:
        TypeError: If `every` or `timeline` is not an integer.
        ValueError: If one of them is too small, or `tensorboard` none of the
            above. At the begin of training, if `log_dir` is not a folder that
            can be written to.
        RuntimeError: At the begin of training, if a monitor comes after it, if
            it is inside of another callback, or if events are to be written
            and cannot be.

    Example:

    >>> callbacks = [
    ...     tfdp.callbacks.DataParallel(),
    ...     tfdp.callbacks.LearningRateMonitor(),
    ...     tfdp.callbacks.RunLogger("runs/digits", every=50),
    ... ]
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str],
        *,
        every: int = 100,
        tensorboard: Literal["auto"] | bool = "auto",
        timeline: int = 100,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        if tensorboard != "auto" and not isinstance(tensorboard, bool):
            raise ValueError(
                '`tensorboard` must be True, False or "auto". Received: '
                f"tensorboard={tensorboard!r}. The folder is `log_dir`."
            )
        self.log_dir = log_dir
        self.every = checked_count("every", every)
        self.tensorboard = tensorboard
        self.timeline = checked_count("timeline", timeline, minimum=0)
        self._clock = clock
        self._log: RunLog | None = None
        self._events: EventFile | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Looks for monitors, and opens the files."""
        callbacks = keras_fit.callbacks_in_use()
        self._monitors = _monitors_before(self, callbacks)
        self._backups = [
            c.backups
            for c in callbacks or []
            if isinstance(c, BackupAndRestore)
        ]
        for monitor in self._monitors:
            if hasattr(monitor, "listen"):
                monitor.listen(self._write_window)
            if self.timeline and hasattr(monitor, "timeline"):
                self._listen_to_steps(monitor)
        self._updates = UpdateCount(self.model)
        self._exchanges = ExchangeWatch(self.model.distribute_strategy)
        self._log = self._events = None
        self._account: TimeAccount | None = None
        self._has_begun = False
        self._due = math.inf
        self._seen = self._at_once = 0
        self._shown: int | None = None
        if getattr(self.model.distribute_strategy, "is_chief", True):
            self._log = RunLog(self.log_dir)
            self._events = opened(self.log_dir, self.tensorboard)
            if any(isinstance(each, FirstWord) for each in callbacks or []):
                path = str(self._log.path)
                self._account = time_account(path, self._clock())

    def on_epoch_begin(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Writes, if it is the first, what is trained and from where on."""
        if self._log is None:
            return
        self._epoch = epoch
        self._exchanges.begin_epoch()
        self._epoch_begin = self._clock()
        self._step_logs: dict[str, Any] | None = None
        self._update = self._updates.now()
        # Only now has every callback restored what it restores.
        if not self._has_begun:
            self._has_begun = True
            units = [m.unit for m in self._monitors if hasattr(m, "unit")]
            header = run_header(self.model, unit=[*units, "samples"][0])
            self._append("run", {**self._place(), **header})
            if self._log is not None and self._account is not None:
                self._log.append(self._account.start(header["workers"]))
        self._at_once = self.model.steps_per_execution
        self._seen = 0
        self._plan()

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Writes figures when it is time."""
        self._step_logs = logs
        self._seen += self._at_once
        if self._seen >= self._due:
            self._write_update(self._figures())
            self._plan()

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Writes the logs of the epoch."""
        if self._log is None:
            return
        seconds = self._clock() - self._epoch_begin
        found = numbers_in(logs)
        # What a monitor has logged, callbacks after it may have changed since.
        figures = {k: found.get(k, x) for k, x in self._figures().items()}
        self._write_update(figures)
        self._append("epoch", {**self._place(), "seconds": seconds}, found)
        self._write_spent()
        self._write_exchanges()
        for backups in self._backups:
            self._append("backups", {**self._place(), **backups.pauses.row()})
        scalars = {
            f"epoch/{k}": x for k, x in found.items() if k not in figures
        }
        if self._shown != self._update:
            scalars.update(figures)
        self._show(scalars, self._update)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Writes what has limited the fit, and closes the files."""
        if self._log is not None and self._has_begun:
            limits = [m.limit() for m in self._monitors if hasattr(m, "limit")]
            limit = next((each for each in limits if each is not None), None)
            end = {
                "update": self._updates.now(),
                "limit": limit and limit.kind,
                "words": limit and str(limit),
            }
            if self._exchanges.of_fit is not None:
                end["room_words"] = room_words(self._exchanges.of_fit)
            self._append("end", end)
            self._write_spent()
        if self._events is not None:
            self._events.close()
        self._log = self._events = None

    def _place(self) -> dict[str, int]:
        return {"epoch": self._epoch, "update": self._update}

    def _plan(self) -> None:
        """Says after how many batches the next figures are due, at most."""
        optimizer = self.model.optimizer
        steps = getattr(optimizer, "accumulation_steps", 1)
        begun = 0
        if steps > 1 and optimizer.built:
            begun = int(optimizer.micro_step.numpy())
        missing = self.every - self._update % self.every
        self._due = self._seen + missing * steps - begun

    def _figures(self) -> dict[str, float]:
        found = {}
        for monitor in self._monitors:
            if hasattr(monitor, "figures"):
                found.update(monitor.figures())
        return found

    def _write_update(self, figures: Mapping[str, float]) -> None:
        before, self._update = self._update, self._updates.now()
        if self._update // self.every == before // self.every:
            return
        found = numbers_in(self._step_logs)
        self._append("update", self._place(), {**found, **figures})
        self._write_spent()
        of_step = {f"train/{k}": x for k, x in found.items()}
        self._show({**of_step, **figures}, self._update)
        self._shown = self._update

    def _write_window(self, window: Any) -> None:
        for row in window.rows():
            self._append("window", row)
        self._show(window.scalars(), window.update)

    def _listen_to_steps(self, monitor: Any) -> None:
        strategy = self.model.distribute_strategy
        if strategy.is_chief:
            log = TimelineLog(
                self.log_dir,
                time=self._clock(),
                workers=strategy.num_workers,
                replicas=strategy.num_replicas_in_sync,
                every=self.timeline,
            )
            monitor.timeline.listen(self.timeline, log)

    def _write_spent(self) -> None:
        if self._log is not None and self._account is not None:
            self._log.append(self._account.spent())

    def _write_exchanges(self) -> None:
        self._exchanges.end_epoch()
        if (found := self._exchanges.of_epoch) is not None:
            for row in found.rows():
                self._append("staleness", {**self._place(), **row})
            self._show(found.scalars(), self._update)

    def _append(
        self,
        kind: str,
        head: Mapping[str, Any],
        values: Mapping[str, float] | None = None,
    ) -> None:
        if self._log is not None:
            head = {"kind": kind, "time": self._clock(), **head}
            # A metric of the same name does not take its place.
            self._log.append({**head, **(values or {}), **head})

    def _show(self, scalars: Mapping[str, float], update: int) -> None:
        if self._events is not None:
            self._events.write(scalars, update)


def _monitors_before(
    logger: RunLogger, callbacks: list[keras.callbacks.Callback] | None
) -> list[keras.callbacks.Callback]:
    if callbacks is None:
        raise RuntimeError(
            "`callbacks.RunLogger` must be one of the callbacks of a `fit`, to "
            "find the monitors among them. Received: a call by something else. "
            "Give it to `fit` as it is, and not inside of another callback: it "
            "keeps to the chief by itself."
        )
    place = callbacks.index(logger)
    late = [type(c).__name__ for c in callbacks[place:] if _is_monitor(c)]
    if late:
        raise RuntimeError(
            "`callbacks.RunLogger` must come after the monitors, whose figures "
            f"it writes. Received: {', '.join(late)} after it. Put it at the "
            "end of the list given to `fit`."
        )
    return [c for c in callbacks[:place] if _is_monitor(c)]


def _is_monitor(callback: keras.callbacks.Callback) -> bool:
    return hasattr(callback, "figures") or hasattr(callback, "listen")
