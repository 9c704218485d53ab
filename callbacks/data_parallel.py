"""What data-parallel training needs at the edges of a fit."""

import warnings
from typing import Any

import keras
import tensorflow as tf

from tfdp import _keras
from tfdp.optimizer import DistributedOptimizer
from tfdp.precision import half_precision_findings
from tfdp.strategy import DataParallelStrategy

_NO_STRATEGY = type(tf.distribute.get_strategy())


class DataParallel(keras.callbacks.Callback):
    """Keeps the edges of a fit: its begin, the end of each epoch, its end.

    - At the begin of training it checks that the model was built and compiled
      in the strategy's scope, and warns of a softmax or loss computed in half
      precision.
    - Before validation, and before any other callback sees the end of an
      epoch, it updates with what a short last cycle of
      `tfdp.DistributedOptimizer` has gathered.
    - At the end of training it waits for all workers, so that none ends the
      job for the others.
    - Only the chief shows progress.

    It must be the first of the callbacks. Inside a step everything is exact
    without it.

    Raises:
        RuntimeError: At the begin of training, if another callback comes
            before it, or a part of the model was made outside of the scope.
        ValueError: At the begin of training, if the model is compiled with
            `jit_compile=True`, or with a loss that is a sum over the batch.

    Example:

    >>> callbacks = [tfdp.callbacks.DataParallel()]
    """

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
        _check_made_in_scope(self.model)
        _check_exact(self.model)
        for finding in half_precision_findings(self.model):
            warnings.warn(finding, stacklevel=2)
        if isinstance(self.model.optimizer, DistributedOptimizer):
            self.model.optimizer.keep_edges()
        self._in_fit = True

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Flushes a short cycle before validation."""
        self._flush()

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Flushes a short cycle where no validation did."""
        self._flush()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Waits for all workers."""
        self._in_fit = False
        strategy = self.model.distribute_strategy
        if isinstance(strategy, DataParallelStrategy):
            strategy.barrier()

    def _flush(self) -> None:
        optimizer = self.model.optimizer
        if getattr(self, "_in_fit", False) and isinstance(
            optimizer, DistributedOptimizer
        ):
            optimizer.flush()


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


def _check_made_in_scope(model: keras.Model) -> None:
    strategy = model.distribute_strategy
    if isinstance(strategy, _NO_STRATEGY):
        raise RuntimeError(
            "The model must be built and compiled in the strategy's scope. "
            "Received: a model made outside of any scope, which would train "
            "on one device, and on each worker for itself. Move building the "
            "model and `model.compile(...)` into `with strategy.scope():`."
        )
    if not isinstance(strategy, DataParallelStrategy):
        return
    variables = [
        *model.weights,
        *(v for m in model.metrics for v in m.variables),
    ]
    outside = [
        v.path
        for v in variables
        if not strategy.extended.variable_created_in_scope(v.value)
    ]
    if outside:
        raise RuntimeError(
            "The model must be built and compiled in the strategy's scope. "
            f"Received: {len(outside)} variables made outside of it, such as "
            f"{outside[0]}. Move building the model and `model.compile(...)` "
            "into `with strategy.scope():`."
        )


def _check_exact(model: keras.Model) -> None:
    if model.jit_compile:
        raise ValueError(
            "A step under a strategy cannot be compiled by XLA as a whole. "
            "Received: jit_compile=True. Compile the model with "
            "`jit_compile=False`."
        )
    if not isinstance(model.optimizer, DistributedOptimizer):
        return
    for loss in keras.tree.flatten(getattr(model, "loss", None)):
        if getattr(loss, "reduction", None) == "sum":
            raise ValueError(
                "A loss must be a mean over samples, because gradients are "
                "weighed by samples. Received: reduction='sum' of "
                f"{loss.name}. Use reduction='sum_over_batch_size', with a "
                "learning rate larger by the global batch."
            )
