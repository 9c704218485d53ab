"""The `fit` that is running, and what it calls.

A doorway to private names of Keras, each of which has a contract in
`tests/upstream/test_keras_fit.py`.
"""

import sys
import types
from collections.abc import Callable
from typing import Any

import keras
from keras.src.trainers.epoch_iterator import EpochIterator as _EpochIterator


def is_symbolic_build(depth: int = 1) -> bool:
    """Whether a caller is Keras, asking for the shape of one batch.

    Before the first step Keras reduces a batch of data over the replicas, of
    which it then uses shapes and types alone. Nothing in the values tells that
    call from a user's own.

    Args:
        depth: How many frames above the caller of this function to look.
    """
    return sys._getframe(depth + 1).f_code.co_name == "_maybe_symbolic_build"


def callbacks_in_use(depth: int = 1) -> list[keras.callbacks.Callback] | None:
    """Returns all callbacks of the `fit` that is calling a callback's hook.

    Args:
        depth: How many frames above the caller of this function to look.

    Returns:
        The callbacks in their order, or `None` where the hook was not called
        by a `keras.callbacks.CallbackList`.
    """
    caller = sys._getframe(depth + 1).f_locals.get("self")
    if isinstance(caller, keras.callbacks.CallbackList):
        return list(caller.callbacks)
    return None


def change_callbacks(
    change: Callable[
        [list[keras.callbacks.Callback]], list[keras.callbacks.Callback]
    ],
    depth: int = 1,
) -> None:
    """Changes the callbacks of the `fit` that is calling a hook.

    Args:
        change: Returns the new ones, given the old; those up to the one whose
            hook is called must stay.
        depth: How many frames above the caller of this function to look.
    """
    caller = sys._getframe(depth + 1).f_locals.get("self")
    if isinstance(caller, keras.callbacks.CallbackList):
        before = list(caller.callbacks)
        # In place: the list is being gone through.
        caller.callbacks[:] = change(before)
        for callback in caller.callbacks:
            if callback not in before:
                callback.set_params(caller.params)
                callback.set_model(caller.model)


def fit_under_way(frame: types.FrameType | None = None) -> Any:
    """Returns the `EpochIterator` of the `fit` that is running, or `None`.

    Args:
        frame: Where to begin to look, upwards. Defaults to the caller.
    """
    frame = frame or sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "fit":
            found = frame.f_locals.get("epoch_iterator")
            if isinstance(found, _EpochIterator):
                return found
        frame = frame.f_back
    return None


def begin_at_epoch(model: keras.Model, epoch: int | None) -> None:
    """Has a `fit` begin at an epoch.

    Args:
        model: The model that is fitted, from `on_train_begin` of a callback.
        epoch: Index of the epoch; `None` for what `fit` is given, which is to
            be said before the next `fit`.
    """
    model._initial_epoch = epoch


def model_of_step(fn: Callable[..., Any], name: str) -> keras.Model | None:
    """Returns the model whose step this is, if any.

    Args:
        fn: What was given to `Strategy.run`.
        name: `"train_step"` or `"test_step"`.
    """
    model = getattr(fn, "__self__", None)
    is_step = getattr(fn, "__name__", None) == name
    return model if is_step and isinstance(model, keras.Model) else None


def is_predict_step(fn: Callable[..., Any]) -> bool:
    """Whether this is what Keras's `predict` gives to `Strategy.run`."""
    name = getattr(fn, "__qualname__", "")
    return name.endswith("make_predict_function.<locals>.one_step_on_data")
