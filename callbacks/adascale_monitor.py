"""How far AdaScale has come, and where it ends."""

import math
from typing import Any

import keras

from tfdp.callbacks.data_parallel import DataParallel
from tfdp.checks import checked_count
from tfdp.large_batch import AdaScale
from tfdp.upstream.keras import keras_fit


class AdaScaleMonitor(keras.callbacks.Callback):
    """Logs AdaScale's gain, and stops where the base batch would have.

    At the end of an epoch it adds to the logs, for `History` and the callbacks
    that come after it:

    | Key                     | Unit    | Value                           |
    | ----------------------- | ------- | ------------------------------- |
    | `adascale_gain`         | 1       | gain of the last update         |
    | `scale_invariant_steps` | updates | sum of all gains: what it would |
    |                         |         | have taken with the base batch  |

    Give `fit` more epochs than it will need: training takes between
    `total_steps / S` and `total_steps` updates, where S is the batch over the
    base batch. It stops after the same update on all workers.

    Put it after `callbacks.DataParallel()`.

    Args:
        total_steps: Scale-invariant steps after which to stop: the number of
            updates that training took with the base batch. `None` to train
            for all epochs. Defaults to `None`.

    Raises:
        TypeError: If `total_steps` is not an integer.
        ValueError: If `total_steps` is not positive.
        RuntimeError: At the begin of training, if the model was not compiled
            with AdaScale.

    Example:

    >>> monitor = tfdp.callbacks.AdaScaleMonitor(total_steps=20_000)
    >>> callbacks = [tfdp.callbacks.DataParallel(), monitor]

    Reference:
        Johnson et al., 2020, algorithm 1. https://arxiv.org/abs/2007.05105
    """

    def __init__(self, *, total_steps: int | None = None) -> None:
        super().__init__()
        if total_steps is not None:
            total_steps = checked_count("total_steps", total_steps)
        self.total_steps = total_steps

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks that there is something to look at."""
        self._steps_before = 0.0
        self._adascale = self._found()
        callbacks = keras_fit.callbacks_in_use() or []
        self._edges = [c for c in callbacks if isinstance(c, DataParallel)]

    def _found(self) -> AdaScale:
        optimizer = self.model.optimizer
        inner = getattr(optimizer, "inner_optimizer", None)
        if not isinstance(inner, AdaScale):
            received = type(optimizer if inner is None else inner).__name__
            raise RuntimeError(
                "`callbacks.AdaScaleMonitor` needs AdaScale. Received: "
                f"{received}. Compile with "
                "`tfdp.DistributedOptimizer(tfdp.AdaScale(...))`."
            )
        return inner

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Stops where the base batch would have."""
        if self.total_steps is not None and self._steps() >= self.total_steps:
            self._stop()

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Logs the gain and the steps so far."""
        if logs is not None:
            logs.update(self.figures())

    def figures(self) -> dict[str, float]:
        """Returns the gain and the steps so far, by their names in logs."""
        steps = self._steps()
        adascale = self._adascale
        return {
            "adascale_gain": (
                float(adascale.gain.numpy()) if adascale.built else math.nan
            ),
            "scale_invariant_steps": steps,
        }

    def _stop(self) -> None:
        strategy = self.model.distribute_strategy
        if self._edges and getattr(strategy, "num_workers", 1) > 1:
            # All workers have the same gains, and need not hear of it.
            self._edges[0].ballot.decide("stop")
        else:
            self.model.stop_training = True

    def _steps(self) -> float:
        found = self._found()
        if found is not self._adascale:
            # The model was compiled again, and begins to count anew.
            self._steps_before += _steps_of(self._adascale)
            self._adascale = found
        return self._steps_before + _steps_of(found)


def _steps_of(adascale: AdaScale) -> float:
    steps = adascale.scale_invariant_steps if adascale.built else 0.0
    return float(keras.ops.convert_to_numpy(steps))
