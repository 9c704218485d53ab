"""The loss scale and the updates it has cost, as training goes."""

import warnings
from typing import Any

import keras

from tfdp.checks import checked_count
from tfdp.optimizer import FLOOR, DistributedOptimizer


class LossScaleMonitor(keras.callbacks.Callback):
    """Logs the loss scale, and stops training that has lost its numbers.

    At the end of an epoch it adds to the logs, for `History` and the callbacks
    that come after it:

    | Key               | Unit | Value                                   |
    | ----------------- | ---- | --------------------------------------- |
    | `loss_scale`      | 1    | scale of the loss; 1 where it is off    |
    | `skipped_updates` | 1    | updates skipped by the optimizer so far |

    A dynamic scale is halved by each update that overflows. Once it can fall
    no further, an overflow is no question of the scale any more: the model
    itself computes values that are not finite. After `patience` updates that
    are skipped like this in a row, training is stopped, on all workers at the
    same step, and a warning says what to try.

    Put it after `callbacks.DataParallel()`.

    Args:
        patience: Updates skipped in a row, at a scale that cannot fall, after
            which to stop; an integer of at least 1. Defaults to 20.

    Raises:
        TypeError: If `patience` is not an integer.
        ValueError: If `patience` is not positive.
        RuntimeError: At the begin of training, if the optimizer is not a
            `tfdp.DistributedOptimizer`.

    Example:

    >>> monitor = tfdp.callbacks.LossScaleMonitor(patience=50)
    >>> callbacks = [tfdp.callbacks.DataParallel(), monitor]

    Reference:
        Micikevicius et al., 2018, section 3.2.
        https://arxiv.org/abs/1710.03740
    """

    def __init__(self, *, patience: int = 20) -> None:
        super().__init__()
        self.patience = checked_count("patience", patience)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks that there is something to look at."""
        self._begin()

    def _begin(self) -> None:
        optimizer = self.model.optimizer
        if not isinstance(optimizer, DistributedOptimizer):
            raise RuntimeError(
                "`callbacks.LossScaleMonitor` needs an optimizer that counts "
                f"skipped updates. Received: {type(optimizer).__name__}. "
                "Compile with `tfdp.DistributedOptimizer(inner_optimizer)`."
            )
        self._optimizer = optimizer
        self._lost = 0
        self._made, self._skipped = self._counts()
        self._was_lowest = self._is_lowest()

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Stops training that only skips updates."""
        if self.model.optimizer is not self._optimizer:
            # The model was compiled again, and begins to count anew.
            self._begin()
        made, skipped = self._counts()
        if made > self._made or not self._was_lowest:
            self._lost = 0
        else:
            self._lost += skipped - self._skipped
        self._made, self._skipped = made, skipped
        self._was_lowest = self._is_lowest()
        if self._lost >= self.patience and not self.model.stop_training:
            self.model.stop_training = True
            way_out = "`tfdp.set_precision('mixed_bfloat16')`"
            if self.model.optimizer.compression == "float16":
                way_out = "compression='bfloat16', or " + way_out
            warnings.warn(
                "Gradients must be finite at some loss scale. Received: "
                f"{self._lost} updates skipped in a row at a scale of "
                f"{self._scale():g}; training stops. Look for a loss or layer "
                "that divides by zero or takes a logarithm of it, lower the "
                f"learning rate, clip gradients, or use {way_out}.",
                stacklevel=2,
            )

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Logs the scale and the updates skipped so far."""
        if logs is not None:
            logs.update(self.figures())

    def figures(self) -> dict[str, float]:
        """Returns the scale and the updates skipped, by their names in logs."""
        return {
            "loss_scale": self._scale(),
            "skipped_updates": self._counts()[1],
        }

    def _counts(self) -> tuple[int, int]:
        optimizer = self.model.optimizer
        return (
            int(optimizer.iterations.numpy()),
            int(optimizer.skipped_updates.numpy()),
        )

    def _scale(self) -> float:
        optimizer = self.model.optimizer
        if not optimizer.loss_scale:
            return 1.0
        return float(optimizer.dynamic_scale.numpy())

    def _is_lowest(self) -> bool:
        is_dynamic = self.model.optimizer.loss_scale == "dynamic"
        return not is_dynamic or self._scale() <= FLOOR
