"""The `fit` that is running, and what it calls.

A doorway to private names of Keras, each of which has a contract in
`tests/upstream/test_keras_fit.py`.
"""

import contextlib
import dataclasses
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from tfdp.upstream.private import Member, MissingNameError

_ITERATOR = "epoch_iterator"
_ONE_STEP = "one_step_on_data"
_PREDICT_STEP = "make_predict_function.<locals>.one_step_on_data"
_initial_epoch = Member(
    "_initial_epoch", serves="BackupAndRestore begins at the first epoch again"
)


def is_symbolic_build(within: int = 1) -> bool:
    """Whether a caller is Keras, asking for the shape of one batch.

    Before the first step Keras takes a batch of data and reduces it over the
    replicas, of which it then uses shapes and types alone. Nothing in the
    values tells these calls from a user's own.

    Args:
        within: How many frames above the caller of this function to look.
    """
    frame = sys._getframe(1).f_back
    for _ in range(within):
        if frame is None:
            return False
        if frame.f_code.co_name == "_maybe_symbolic_build":
            return True
        frame = frame.f_back
    return False


@dataclasses.dataclass(frozen=True)
class SymbolicBuild:
    """Keras about to build a model by calling it on a batch.

    Args:
        model: The model.
        data: The batch, as a step of the model is given it.
        step: `"train_step"` or `"test_step"`; what is about to run.
    """

    model: keras.Model
    data: Any
    step: str

    @property
    def is_own_step(self) -> bool:
        """Whether the step is not Keras's."""
        return is_own(self.model, self.step)

    @contextlib.contextmanager
    def left_out(self) -> Iterator[None]:
        """Has Keras leave it out, while the block runs."""
        held = vars(self.model)
        held["_symbolic_build"] = lambda **_: None
        try:
            yield
        finally:
            held.pop("_symbolic_build", None)


def symbolic_build(depth: int = 1) -> SymbolicBuild | None:
    """Returns the build that a caller is about to make, if it is Keras.

    Args:
        depth: How many frames above the caller of this function to look.
    """
    if not is_symbolic_build(depth + 1):
        return None
    frame = sys._getframe(depth + 1)
    method = frame.f_back.f_code.co_name if frame.f_back else ""
    return SymbolicBuild(
        frame.f_locals["self"],
        keras.tree.map_structure(
            lambda leaf: (
                None if isinstance(leaf, tf.experimental.Optional) else leaf
            ),
            frame.f_locals["data_batch"],
        ),
        "train_step" if method in ("fit", "train_on_batch") else "test_step",
    )


def is_own(model: keras.Model, method: str) -> bool:
    """Whether a method of a model is the user's, and not Keras's."""
    own = vars(model).get(method) or getattr(type(model), method)
    return own is not getattr(keras.Model, method)


def logs_metrics(model: keras.Model, outputs: dict[str, Any]) -> bool:
    """Whether Keras logs of an epoch what the model's metrics then are.

    Otherwise it logs what the last step has returned.

    Args:
        model: A model.
        outputs: What a step of it returns.
    """
    try:
        results = model.get_metrics_result()
    except Exception:  # Those that no step has used.
        return False
    return set(outputs) == set(results)


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
                # All are given the model first.
                if hasattr(caller, "params"):
                    callback.set_params(caller.params)
                callback.set_model(caller.model)


def guard_callbacks(
    guard: Callable[[Callable[..., Any]], Callable[..., Any]], depth: int = 1
) -> None:
    """Puts something around all that the `fit` calling a hook tells callbacks.

    Args:
        guard: Returns what `fit` is to call instead of a function.
        depth: How many frames above the caller of this function to look.
    """
    caller = sys._getframe(depth + 1).f_locals.get("self")
    if isinstance(caller, keras.callbacks.CallbackList):
        for name in dir(keras.callbacks.Callback):
            if name.startswith("on_"):
                setattr(caller, name, guard(getattr(caller, name)))


def fit_under_way(frame: types.FrameType | None = None) -> Any:
    """Returns the `EpochIterator` of the `fit` that is running, or `None`.

    Args:
        frame: Where to begin to look, upwards. Defaults to the caller.

    Raises:
        MissingNameError: If a `fit` of Keras's is running that calls it
            otherwise.
    """
    frame = frame or sys._getframe(1)
    while frame is not None:
        if _is_keras_fit(frame):
            code = frame.f_code
            if _ITERATOR not in code.co_varnames + code.co_cellvars:
                raise MissingNameError(
                    _ITERATOR,
                    "the variables of `fit`",
                    "a signal ends one worker and the others wait, and "
                    "BackupAndRestore does not know its place in the data",
                )
            found = frame.f_locals.get(_ITERATOR)
            if found is not None:
                return found
        frame = frame.f_back
    return None


def trained_from(epoch_iterator: Any) -> int | None:
    """Returns the first epoch of the `fit` that is making its data.

    Args:
        epoch_iterator: An `EpochIterator` that is being made, from what is
            called for that; may be `None`.

    Returns:
        What the program gave as `initial_epoch`; `None` where it is not the
        data that a `fit` trains on, but those of its validation, or of
        `evaluate` or `predict`.
    """
    frame: types.FrameType | None = sys._getframe(1)
    was_found = False
    while frame is not None:
        is_its_own = frame.f_locals.get("self") is epoch_iterator
        if was_found and not is_its_own:
            break
        was_found = was_found or is_its_own
        frame = frame.f_back
    if epoch_iterator is None or frame is None or not _is_keras_fit(frame):
        return None
    if frame.f_locals.get(_ITERATOR) is not None:
        return None
    return int(frame.f_locals["initial_epoch"])


def begin_at_epoch(model: keras.Model, epoch: int | None) -> None:
    """Has a `fit` begin at an epoch.

    Args:
        model: The model that is fitted, from `on_train_begin` of a callback.
        epoch: Index of the epoch; `None` for what `fit` is given, which is to
            be said before the next `fit`.
    """
    _initial_epoch.replace(model, epoch)


def begins_at_epoch(model: keras.Model) -> int | None:
    """Returns what `begin_at_epoch` has said, if anything.

    Args:
        model: The model that is fitted.
    """
    return _initial_epoch.of(model)


def model_of_step(fn: Callable[..., Any], name: str) -> keras.Model | None:
    """Returns the model whose step this is, if any.

    Args:
        fn: What was given to `Strategy.run`.
        name: `"train_step"` or `"test_step"`.
    """
    model = getattr(fn, "__self__", None)
    is_step = getattr(fn, "__name__", None) == name
    return model if is_step and isinstance(model, keras.Model) else None


def model_of_any_step(fn: Callable[..., Any]) -> keras.Model | None:
    """Returns the model whose step this is, to train or to test, if any."""
    return model_of_step(fn, "train_step") or model_of_step(fn, "test_step")


def is_own_call_of_run() -> bool:
    """Whether the caller of `Strategy.run`, which asks, is a step of Keras's.

    Which has the results reduced next, each by itself.
    """
    caller = sys._getframe(2)
    return caller.f_code.co_name == _ONE_STEP and caller.f_globals.get(
        "__name__", ""
    ).startswith("keras.")


def frame_of_fit() -> types.FrameType | None:
    """Returns the frame of the `fit` that this thread is in, or `None`."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None and not _is_keras_fit(frame):
        frame = frame.f_back
    return frame


def arguments_of_fit() -> dict[str, Any]:
    """Returns what the `fit` that this thread is in was given, by name.

    Returns:
        Its arguments, before it begins to train; nothing outside of a `fit`.
    """
    frame = frame_of_fit()
    if frame is None:
        return {}
    code, found = frame.f_code, frame.f_locals
    names = code.co_varnames[: code.co_argcount]
    return {name: found[name] for name in names if name != "self"}


def _is_keras_fit(frame: types.FrameType) -> bool:
    return (
        frame.f_code.co_name == "fit"
        and frame.f_globals.get("__name__", "").startswith("keras.")
        and isinstance(frame.f_locals.get("self"), keras.Model)
    )


def is_predict_step(fn: Callable[..., Any]) -> bool:
    """Whether this is what Keras's `predict` gives to `Strategy.run`.

    Raises:
        MissingNameError: If it is of Keras's own making, and none that is
            known.
    """
    name = getattr(fn, "__qualname__", "")
    if name.endswith(_PREDICT_STEP):
        return True
    owner = getattr(fn, "__module__", None) or ""
    if "<locals>" in name and owner.startswith("keras.src.backend."):
        raise MissingNameError(
            _PREDICT_STEP,
            f"{owner}, but `{name}`",
            "`predict` would fail where the last batch leaves a replica "
            "empty, and `predict_on_batch` return rows twice",
        )
    return False
