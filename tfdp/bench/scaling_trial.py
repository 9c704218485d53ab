"""Runs a training script until it is measured; see `tfdp bench scaling`.

`python -m tfdp.bench.scaling_trial RESULT UPDATES SCRIPT [ARGS]` is one worker.
It runs the script as Python would, but for its first `fit`, which has a
`callbacks.ThroughputMonitor` measure it, and a callback end the program when
there is enough; what comes after in the script does not run.
"""

import dataclasses
import functools
import inspect
import json
import pathlib
import runpy
import sys
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdp.bench.cost_model import Point
from tfdp.callbacks.data_parallel import DataParallel
from tfdp.callbacks.throughput_monitor import ThroughputMonitor
from tfdp.throughput import Window
from tfdp.upstream.keras import keras_fit

_WINDOWS = 5
_WHOLE = 0.95


class Trial(keras.callbacks.Callback):
    """Ends the program after some updates, and writes what they cost.

    The time of an update varies; of several windows the median one counts, and
    the extremes say how much. Put it after the monitor.

    Args:
        result: File for the chief to write, as JSON.
        updates: Updates to measure, warm-up not counted.
        monitor: What measures.
    """

    is_collective = True

    def __init__(
        self, result: pathlib.Path, updates: int, monitor: ThroughputMonitor
    ) -> None:
        super().__init__()
        self._result = result
        self._updates = updates
        self._monitor = monitor
        self._windows: list[Window] = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Asks for what is measured, votes among it."""
        self._monitor.listen(self._windows.append)
        for callback in keras_fit.callbacks_in_use() or []:
            if isinstance(callback, DataParallel):
                callback.ballot.is_apart = True

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Ends the program where there is enough."""
        if sum(w.rates.updates for w in self._windows) >= self._updates:
            self._end()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Ends the program with what there is.

        Raises:
            RuntimeError: If that is nothing.
        """
        if not self._windows:
            raise RuntimeError(
                "The first `fit` must be long enough to be measured. Received: "
                f"one that ended within {self._monitor.warmup_updates} "
                "updates of warm-up, or little more. Train on more data or "
                "epochs, or measure fewer by --updates."
            )
        self._end()

    def _end(self) -> None:
        strategy = self.model.distribute_strategy
        if strategy.is_chief:
            self._result.write_text(json.dumps(self._measured()))
        # All have made the same updates, and leave together.
        strategy.barrier()
        raise SystemExit(0)

    def _measured(self) -> dict[str, Any]:
        points = [_point(self.model, window) for window in self._windows]
        # A window at the end of an epoch may have its uneven last batch.
        whole = _WHOLE * max(point.samples for point in points)
        points = [point for point in points if point.samples >= whole]
        points.sort(key=lambda point: point.samples_per_second)
        middle = points[len(points) // 2]
        return {
            "point": dataclasses.asdict(middle),
            "slowest": points[0].samples_per_second,
            "fastest": points[-1].samples_per_second,
            "updates": sum(w.rates.updates for w in self._windows),
            "unit": self._monitor.unit,
            "is_bound": any(window.is_bound for window in self._windows),
        }


def with_trial(
    callbacks: Sequence[keras.callbacks.Callback],
    result: pathlib.Path,
    updates: int,
) -> list[keras.callbacks.Callback]:
    """Adds what measures a fit to its callbacks.

    A monitor that is there measures, with another window and warm-up.

    Args:
        callbacks: Those of the script.
        result: File for the chief to write.
        updates: Updates to measure.

    Returns:
        All callbacks.

    Raises:
        RuntimeError: If `callbacks.DataParallel` is not among them.
    """
    found = list(callbacks)
    edges = [i for i, c in enumerate(found) if isinstance(c, DataParallel)]
    if not edges:
        raise RuntimeError(
            "A fit that is measured must have `callbacks.DataParallel`, by "
            "whose votes latency is measured. Received: a fit without. Give "
            "`callbacks=[tfdp.callbacks.DataParallel(), ...]` to it."
        )
    monitors = [c for c in found if isinstance(c, ThroughputMonitor)]
    if not monitors:
        monitors = [ThroughputMonitor(verbose=0)]
        found[edges[0] + 1 : edges[0] + 1] = monitors
    monitor = monitors[0]
    monitor.window = monitor.warmup_updates = -(-updates // _WINDOWS)
    return [*found, Trial(result, updates, monitor)]


def _point(model: keras.Model, window: Window) -> Point:
    parts = window.breakdown
    updates = window.rates.updates
    by_replica = [
        np.repeat(getattr(parts, name), parts.replicas_by_worker)
        for name in ("between", "held", "voting")
    ]
    between, held, voting = (float(np.mean(each)) for each in by_replica)
    gradients = sum(weight.numpy().nbytes for weight in model.trainable_weights)
    if getattr(model.optimizer, "compression", None):
        gradients //= 2
    seconds = {
        "own": between
        + sum(
            float(np.mean(getattr(parts, name)))
            for name in ("start", "input", "compute", "other")
        ),
        "waiting": held + float(np.mean(parts.waiting)),
        "communication": float(np.mean(parts.communication)),
        "voting": voting,
    }
    strategy = model.distribute_strategy
    return Point(
        workers=strategy.num_workers,
        replicas=strategy.num_replicas_in_sync,
        accumulation_steps=getattr(model.optimizer, "accumulation_steps", 1),
        samples=sum(map(sum, window.rates.samples)) / updates,
        gradient_bytes=gradients,
        **{name: value / updates for name, value in seconds.items()},
    )


def _measured_fit(
    fit: Callable[..., Any],
    result: pathlib.Path,
    updates: int,
    fits: list[keras.Model],
) -> Callable[..., Any]:
    signature = inspect.signature(fit)

    @functools.wraps(fit)
    def measured_fit(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs)
        fits.append(args[0])
        callbacks = keras.tree.flatten(given.arguments.get("callbacks") or [])
        given.arguments["callbacks"] = with_trial(callbacks, result, updates)
        return fit(*given.args, **given.kwargs)

    return measured_fit


def main(result: str, updates: str, script: str, *args: str) -> None:
    """Runs a script that ends where its first fit is measured.

    Args:
        result: Name of the file to write.
        updates: Number of updates to measure.
        script: Name of the script.
        args: Its arguments.

    Raises:
        RuntimeError: If the script ends without a fit, or there are GPUs.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        raise RuntimeError(
            "Workers must have devices of their own to be measured. Received: "
            f"{len(gpus)} GPU(s), which all workers would use. Hide them by "
            "CUDA_VISIBLE_DEVICES=-1 to measure on cores."
        )
    fits: list[keras.Model] = []
    keras.Model.fit = _measured_fit(
        keras.Model.fit, pathlib.Path(result), int(updates), fits
    )
    sys.argv = [script, *args]
    sys.path[0] = str(pathlib.Path(script).resolve().parent)
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        # The end of the measurement, or a failure of the script.
        if fits or end.code:
            raise
    if not fits:
        raise RuntimeError(
            "A script that is measured must train by `fit`. Received: "
            f"{script}, which has ended without. Measure one that does, with "
            "the arguments by which it does."
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
