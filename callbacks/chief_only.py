"""Callbacks that write files, on one worker instead of all."""

import concurrent.futures
import functools
import types
from typing import Any

import keras

from tfdp.optimizer import DistributedOptimizer
from tfdp.strategy import DataParallelStrategy
from tfdp.upstream.keras import inspection

_HOOKS = [name for name in dir(keras.callbacks.Callback) if name[:3] == "on_"]
# Newer than the oldest Keras of the range.
ORBAX = getattr(keras.callbacks, "OrbaxCheckpoint", ())
WRITERS = (
    keras.callbacks.CSVLogger,
    keras.callbacks.ModelCheckpoint,
    keras.callbacks.TensorBoard,
)
_ACTORS = (
    keras.callbacks.BackupAndRestore,
    keras.callbacks.EarlyStopping,
    keras.callbacks.LearningRateScheduler,
    keras.callbacks.ReduceLROnPlateau,
    keras.callbacks.SwapEMAWeights,
    keras.callbacks.TerminateOnNaN,
)


class ChiefOnly(keras.callbacks.Callback):
    """Runs a callback on the chief, and on no other worker.

    For callbacks that write or report, so that workers do not write the same
    file at once. `callbacks.DataParallel` does this by itself for Keras's
    `ModelCheckpoint`, `OrbaxCheckpoint`, `CSVLogger` and `TensorBoard`.

    Where gradients are accumulated on several workers, the callback hears of
    the ends of updates, not of the micro-batches between them: what they have
    gathered is spread over the workers, and the chief alone cannot save it.

    Args:
        callback: The callback. It must not change the training, as
            `EarlyStopping` does: that has to happen on all workers.

    Raises:
        TypeError: If `callback` is no `keras.callbacks.Callback`.
        ValueError: If it is one of Keras's that change the training.

    Example:

    >>> log = ChiefOnly(keras.callbacks.CSVLogger("log.csv"))
    """

    def __init__(self, callback: keras.callbacks.Callback) -> None:
        super().__init__()
        if not isinstance(callback, keras.callbacks.Callback):
            raise TypeError(
                "`callback` must be a `keras.callbacks.Callback`. Received: "
                f"callback={callback!r} (of type {type(callback).__name__})."
            )
        if isinstance(callback, _ACTORS):
            raise ValueError(
                "A callback that changes the training must run on every "
                f"worker. Received: callback={type(callback).__name__}. Give "
                "it to `fit` as it is"
                + (
                    ", as `tfdp.callbacks.BackupAndRestore`."
                    if isinstance(callback, keras.callbacks.BackupAndRestore)
                    else "."
                )
            )
        self.callback = callback
        for name in _HOOKS:
            setattr(self, name, functools.partial(self._call, name))

    def set_params(self, params: dict[str, Any]) -> None:
        """Hands the parameters on.

        Args:
            params: Parameters of the fit.
        """
        super().set_params(params)
        self.callback.set_params(params)

    def set_model(self, model: keras.Model) -> None:
        """Hands the model on, on the chief.

        Args:
            model: The model that is fitted.
        """
        super().set_model(model)
        self._optimizers = inspection.Optimizers(model)
        if isinstance(self.callback, ORBAX):
            self.callback.set_model(_with_a_number(model))
            keras.callbacks.Callback.set_model(self.callback, model)
            if not self._is_chief:
                self.callback.checkpointer.close()
                self.callback.checkpointer = _WritesNothing()
        elif self._is_chief and self.callback.model is not model:
            self.callback.set_model(model)

    def _call(self, hook: str, *args: Any, **kwargs: Any) -> None:
        # Orbax's saves metrics as well, which all workers read together.
        if not (self._is_chief or isinstance(self.callback, ORBAX)):
            return
        ends_a_step = hook == "on_train_batch_end"
        if ends_a_step and self._has_peers and self._is_between_updates():
            return
        getattr(self.callback, hook)(*args, **kwargs)

    def _is_between_updates(self) -> bool:
        return any(
            optimizer.is_mid_cycle
            for optimizer in self._optimizers.now()
            if isinstance(optimizer, DistributedOptimizer) and optimizer.built
        )

    @property
    def _is_chief(self) -> bool:
        strategy = self.model.distribute_strategy
        is_ours = isinstance(strategy, DataParallelStrategy)
        return strategy.is_chief if is_ours else True

    @property
    def _has_peers(self) -> bool:
        return getattr(self.model.distribute_strategy, "num_workers", 1) > 1


class _WritesNothing:
    """Stands in for the checkpointer of a worker that is not the chief."""

    def __getattr__(self, name: str) -> Any:
        return self._done

    def _done(self, *args: Any, **kwargs: Any) -> concurrent.futures.Future:
        future: concurrent.futures.Future = concurrent.futures.Future()
        future.set_result(None)
        return future


def given_the_model(
    callbacks: list[keras.callbacks.Callback], model: keras.Model
) -> list[keras.callbacks.Callback]:
    """Returns callbacks, those on the chief that use the model at once.

    Keras's `OrbaxCheckpoint` takes `iterations` for a number as soon as it is
    given the model, which fails under every strategy; `TensorBoard` writes the
    model's graph.

    Args:
        callbacks: Those of a `fit`.
        model: The model that they are about to be given.
    """
    has_peers = getattr(model.distribute_strategy, "num_workers", 1) > 1
    early = (keras.callbacks.TensorBoard,) if has_peers else ()
    return [
        ChiefOnly(c) if isinstance(c, (ORBAX, early)) else c for c in callbacks
    ]


def on_chief_only(
    callbacks: list[keras.callbacks.Callback],
) -> list[keras.callbacks.Callback]:
    """Returns callbacks, Keras's own writers among them on the chief alone.

    Args:
        callbacks: Those of a `fit` on several workers.

    Raises:
        RuntimeError: If Keras's `BackupAndRestore` is among them.
    """
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.BackupAndRestore):
            raise RuntimeError(
                "Backups of several workers must be agreed between them. "
                "Received: keras.callbacks.BackupAndRestore. Use "
                "`tfdp.callbacks.BackupAndRestore`, which takes the same "
                "arguments and resumes at the batch."
            )
    return [ChiefOnly(c) if isinstance(c, WRITERS) else c for c in callbacks]


def _with_a_number(model: keras.Model) -> Any:
    """Returns what a callback counts on from: an optimizer, and its updates."""
    updates = int(model.optimizer.iterations.numpy())
    return types.SimpleNamespace(
        optimizer=types.SimpleNamespace(iterations=updates)
    )
