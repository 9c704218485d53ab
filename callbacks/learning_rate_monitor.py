"""The learning rate that updates have used."""

from typing import Any

import keras
from keras.optimizers.schedules import LearningRateSchedule

from tfdp.large_batch import AdaScale
from tfdp.upstream.keras import inspection, keras_optimizers


class LearningRateMonitor(keras.callbacks.Callback):
    """Logs the learning rate of the last update.

    At the end of an epoch it adds to the logs, for `History` and the callbacks
    that come after it:

    | Key                 | Unit | Value                                     |
    | ------------------- | ---- | ----------------------------------------- |
    | `learning_rate`     | 1    | rate that the last update used            |
    | `learning_rate_{i}` | 1    | that of optimizer i, where there are more |

    It is the rate that has brought the weights to where they are, not the one
    that comes next: of a schedule, its value at the last update, which Keras's
    `optimizer.learning_rate` has left behind. Before the first update it is
    the rate of the first. Of several optimizers, in a
    `keras.optimizers.MultiOptimizer` or as attributes of the model, each has a
    key, in their order.

    Of `tfdp.AdaScale` it is the rate for the base batch, which the gain
    multiplies; `callbacks.AdaScaleMonitor` logs that. Of `tfdp.LARS` it is the
    rate that those of the layers are in proportion to.

    `keras.callbacks.LearningRateScheduler` and `ReduceLROnPlateau` log the
    same number under the same key, and may come before or after. Put it before
    other callbacks that change the rate at the end of an epoch.

    Raises:
        RuntimeError: At the begin of training, if the model has no optimizer.

    Example:

    >>> monitor = tfdp.callbacks.LearningRateMonitor()
    >>> callbacks = [tfdp.callbacks.DataParallel(), monitor]
    """

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks that there is something to look at."""
        if not inspection.optimizers(self.model):
            raise RuntimeError(
                "`callbacks.LearningRateMonitor` needs an optimizer to look "
                f"at. Received: a {type(self.model).__name__} without one. "
                "Compile with it, or make it an attribute of the model."
            )

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Logs the rate of the last update."""
        if logs is not None:
            # What `ReduceLROnPlateau` has logged, it may have changed since.
            logs.update({**self.figures(), **logs})

    def figures(self) -> dict[str, float]:
        """Returns the rate of the last update, by its name in the logs."""
        rates = [
            _last_rate(part)
            for optimizer in inspection.optimizers(self.model)
            for part in _parts(optimizer)
        ]
        if len(rates) == 1:
            return {"learning_rate": rates[0]}
        return {f"learning_rate_{i}": rate for i, rate in enumerate(rates)}


def _parts(
    optimizer: keras.optimizers.Optimizer,
) -> list[keras.optimizers.Optimizer]:
    optimizer = inspection.innermost(optimizer)
    if keras_optimizers.is_multi_optimizer(optimizer):
        return list(optimizer.optimizers)
    return [optimizer]


def _last_rate(optimizer: keras.optimizers.Optimizer) -> float:
    if isinstance(optimizer, AdaScale):
        return optimizer.rate_of_last_update()
    rate = keras_optimizers.given_rate(optimizer)
    if isinstance(rate, LearningRateSchedule):
        # Accumulating, Keras's own optimizers have it count micro-batches.
        steps = optimizer.gradient_accumulation_steps or 1
        made = int(optimizer.iterations.numpy()) * steps
        step = keras.ops.convert_to_tensor(max(made - 1, 0), "int64")
        return float(rate(step))
    return float(rate() if callable(rate) else rate)
