"""Callbacks that save models, and when all of a model is there to be saved."""

from collections.abc import Sequence

import keras

from tfdp.callbacks.chief_only import ORBAX, WRITERS, ChiefOnly
from tfdp.optimizer import DistributedOptimizer
from tfdp.strategy import AsynchronousStrategy
from tfdp.upstream.keras import inspection

_SAVERS = (
    keras.callbacks.BackupAndRestore,
    keras.callbacks.ModelCheckpoint,
    *((ORBAX,) if ORBAX else ()),
)


def saves_models(
    callbacks: Sequence[keras.callbacks.Callback],
    optimizers: Sequence[DistributedOptimizer],
) -> bool:
    """Whether the slots of all owners are wanted at the ends of epochs.

    Args:
        callbacks: Those of a `fit` on several workers.
        optimizers: Those of the model.

    Raises:
        RuntimeError: If they would be wanted elsewhere, or by all workers.
    """
    if not any(optimizer.owned_variables for optimizer in optimizers):
        return False
    wanted = False
    for callback in callbacks:
        saver = getattr(callback, "callback", callback)
        if isinstance(saver, keras.callbacks.ModelCheckpoint):
            is_whole = not saver.save_weights_only
            _check_owned(not is_whole or saver.save_freq == "epoch", saver)
            wanted |= is_whole
        else:
            _check_owned(not isinstance(saver, ORBAX), saver)
            # One that a user has made may save.
            own = not isinstance(saver, WRITERS)
            wanted |= isinstance(callback, ChiefOnly) and own
    return wanted


def _check_owned(is_possible: bool, callback: keras.callbacks.Callback) -> None:
    if not is_possible:
        raise RuntimeError(
            "What workers have shared out is gathered on the chief at the end "
            f"of an epoch. Received: {type(callback).__name__}, which would "
            "save at other times or on all workers, with ShardedState on "
            "several workers. Use ModelCheckpoint(save_freq='epoch') or "
            "save_weights_only=True, and tfdp.callbacks.BackupAndRestore "
            "between."
        )


def check_saves(
    model: keras.Model, callbacks: Sequence[keras.callbacks.Callback]
) -> None:
    """Checks that what is saved and swapped is whole when it is.

    Args:
        model: The model that is fitted.
        callbacks: Those of the `fit`.

    Raises:
        RuntimeError: If one saves between, where replicas update alone or
            late.
        ValueError: If one swaps averages of weights that replicas have shared
            out.
    """
    ways = [
        optimizer.synchronization
        for optimizer in inspection.optimizers(model)
        if isinstance(optimizer, DistributedOptimizer)
    ]
    late = [way for way in ways if not way.keeps_up]
    is_apart = isinstance(model.distribute_strategy, AsynchronousStrategy)
    for callback in callbacks:
        if is_apart:
            _check_served(callback)
        if isinstance(callback, keras.callbacks.SwapEMAWeights):
            for way in ways:
                way.refuse("swap_ema_weights", "callbacks.SwapEMAWeights")
        save_freq = getattr(callback, "save_freq", "epoch")
        if late and isinstance(callback, _SAVERS) and save_freq != "epoch":
            raise RuntimeError(
                "Weights are whole at the ends of epochs, where replicas "
                f"synchronise by {type(late[0]).__name__}. Received: "
                f"{type(callback).__name__} with save_freq={save_freq!r}. Use "
                "save_freq='epoch', or `tfdp.callbacks.BackupAndRestore`."
            )


def _check_served(callback: keras.callbacks.Callback) -> None:
    saver = getattr(callback, "callback", callback)
    saves_all = isinstance(saver, _SAVERS) and not getattr(
        saver, "save_weights_only", False
    )
    if saves_all and getattr(saver, "save_freq", "epoch") != "epoch":
        raise RuntimeError(
            "In an AsynchronousStrategy the server has the slots of the "
            "optimizer, which a worker gets at the end of an epoch. Received: "
            f"{type(saver).__name__} with save_freq={saver.save_freq!r}. Use "
            "save_freq='epoch' or save_weights_only=True, and "
            "`tfdp.callbacks.BackupAndRestore` between."
        )
