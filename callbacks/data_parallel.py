"""What data-parallel training needs at the edges of a fit."""

import warnings
from typing import Any

import keras

from tfdp import _keras, inspection
from tfdp.audit import audit
from tfdp.batch_statistics import BatchStatistics
from tfdp.data_parallel_strategy import DataParallelStrategy
from tfdp.optimizer import DistributedOptimizer


class DataParallel(keras.callbacks.Callback):
    """Keeps the edges of a fit: its begin, the end of each epoch, its end.

    - At the begin of training it refuses, or warns of, what `tfdp.audit`
      finds without data.
    - Before validation, and before any other callback sees the end of an
      epoch, it updates with what a short last cycle of
      `tfdp.DistributedOptimizer` has gathered, and averages the statistics
      that each replica has kept for itself, as those of `BatchNormalization`.
    - At the end of training it waits for all workers, so that none ends the
      job for the others.
    - Only the chief shows progress.

    It must be the first of the callbacks. Without it everything inside a step
    is still exact, but for what only an audit finds.

    Raises:
        RuntimeError: At the begin of training, if another callback comes
            before it, or if `tfdp.audit` finds an error.

    Example:

    >>> callbacks = [tfdp.callbacks.DataParallel()]
    """

    def __init__(self) -> None:
        super().__init__()
        self._in_fit = False

    def set_params(self, params: dict[str, Any]) -> None:
        """Silences the progress bar of every worker but the chief.

        Args:
            params: Parameters of the fit, shared by all callbacks.
        """
        strategy = self.model.distribute_strategy
        if isinstance(strategy, DataParallelStrategy):
            params["verbose"] = params["verbose"] if strategy.is_chief else 0
        super().set_params(params)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks what would go wrong later, and less legibly."""
        _check_first(self, _keras.callbacks_in_use())
        findings = audit(self.model)
        errors = findings.of("error")
        if errors:
            raise RuntimeError("\n".join(each.message for each in errors))
        for warning in findings.of("warning"):
            warnings.warn(warning.message, stacklevel=2)
        self._statistics = BatchStatistics(
            self.model, self.model.distribute_strategy
        )
        self._optimizers = [
            optimizer
            for optimizer in inspection.optimizers(self.model)
            if isinstance(optimizer, DistributedOptimizer)
        ]
        for optimizer in self._optimizers:
            optimizer.keep_edges()
        self._in_fit = True

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Completes the updates before validation."""
        self._settle()

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Completes the updates where no validation did."""
        self._settle()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Waits for all workers."""
        self._in_fit = False
        strategy = self.model.distribute_strategy
        if isinstance(strategy, DataParallelStrategy):
            strategy.barrier()

    def _settle(self) -> None:
        if self._in_fit:
            for optimizer in self._optimizers:
                optimizer.flush()
            self._statistics.average()


def _check_first(
    callback: DataParallel, callbacks: list[keras.callbacks.Callback] | None
) -> None:
    if callbacks and callbacks[0] is not callback:
        names = [type(c).__name__ for c in callbacks]
        before = names[: callbacks.index(callback)]
        raise RuntimeError(
            "`callbacks.DataParallel` must come first, so that the others see "
            f"the weights of whole updates. Received: {', '.join(before)} "
            "before it. Put it at the head of the list given to `fit`."
        )
