"""What Keras's progress bar shows of the figures that a monitor logs."""

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras


def show_one_figure(
    callbacks: Iterable[keras.callbacks.Callback],
    figures: Callable[[], Mapping[str, float]],
    *,
    key: str,
    name: str,
) -> None:
    """Has the progress bar of a fit show one figure of those that are logged.

    `History`, `CSVLogger` and whatever else reads logs see all of them.

    Args:
        callbacks: Those of the fit.
        figures: Returns what was logged of an epoch, by key.
        key: Which of them to show; left out while it is NaN.
        name: What to call it there.
    """
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.ProgbarLogger):
            # Of this bar alone; Keras makes one for each fit.
            callback.on_epoch_end = functools.partial(
                _end_epoch, callback, figures, key, name
            )


def _end_epoch(
    bar: keras.callbacks.ProgbarLogger,
    figures: Callable[[], Mapping[str, float]],
    key: str,
    name: str,
    epoch: int,
    logs: Mapping[str, Any] | None = None,
) -> None:
    logged = figures()
    shown = {k: x for k, x in (logs or {}).items() if k not in logged}
    if not math.isnan(logged.get(key, math.nan)):
        shown[name] = logged[key]
    type(bar).on_epoch_end(bar, epoch, shown)
