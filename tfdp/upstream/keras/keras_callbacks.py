"""What Keras's callbacks remember from epoch to epoch.

A doorway to private names of Keras, each of which has a contract in
`tests/upstream/test_keras_callbacks.py`.
"""

import types
from collections.abc import Mapping
from typing import Any

import keras

_SAVES = ("best", "_batches_seen_since_last_saving", "_last_batch_seen")
_REMEMBERED: dict[str, tuple[str, ...]] = {
    "EarlyStopping": (
        "wait",
        "stopped_epoch",
        "best",
        "best_weights",
        "best_epoch",
    ),
    "ModelCheckpoint": _SAVES,
    "OrbaxCheckpoint": (*_SAVES, "_total_batches_seen"),
    "ReduceLROnPlateau": ("wait", "cooldown_counter", "best"),
    "TensorBoard": ("_global_train_batch", "_global_test_batch"),
}
_COUNTED_IN_BATCHES = (
    "_batches_seen_since_last_saving",
    "_total_batches_seen",
    "_global_train_batch",
)


def remembered(callback: keras.callbacks.Callback) -> dict[str, Any]:
    """Returns what one of Keras's callbacks, or of its kind, remembers.

    Args:
        callback: Any callback.

    Returns:
        Values by name of attribute; nothing for one that remembers nothing,
        or is not Keras's.
    """
    return {
        name: getattr(callback, name)
        for name in _names(callback)
        if hasattr(callback, name)
    }


def remember(
    callback: keras.callbacks.Callback,
    state: Mapping[str, Any],
    *,
    batches_before: int = 0,
    last_step: int = 0,
) -> None:
    """Has a callback remember what it, or one like it, did.

    Args:
        callback: Any callback.
        state: What `remembered` has returned.
        batches_before: Batches that the callback will be told of once more
            before it is where it was. It counts up to that place, and saves
            nothing on the way. Defaults to 0.
        last_step: Step up to which a `TensorBoard` has written already, if
            that is beyond the place where it was. Defaults to 0.
    """
    for name in _names(callback):
        if name not in state:
            continue
        then = value = state[name]
        if batches_before and name in _COUNTED_IN_BATCHES:
            value -= batches_before
        if batches_before and name == "_last_batch_seen":
            value = None
        if name == "_global_train_batch":
            value = _steps(value, written=max(then, last_step))
        setattr(callback, name, value)


def is_keras_own(callback: keras.callbacks.Callback) -> bool:
    """Whether a callback is of a class of Keras's."""
    return _is_keras(type(callback))


def own_attributes(callback: keras.callbacks.Callback) -> dict[str, Any]:
    """Returns the attributes that Keras's code does not know of.

    Args:
        callback: A callback of a class of the user's.
    """
    known = {
        name
        for kind in type(callback).__mro__
        if _is_keras(kind)
        for function in vars(kind).values()
        if isinstance(function, types.FunctionType)
        for name in function.__code__.co_names
    }
    return {k: v for k, v in vars(callback).items() if k not in known}


class _WrittenSteps(int):
    """A count of steps, while all of them have their summaries already."""

    written: int

    def __add__(self, more: int) -> int:
        return _steps(int(self) + more, written=self.written)

    def __mod__(self, frequency: int) -> int:
        # `TensorBoard` writes where this is 0.
        return 1


def _steps(count: int, *, written: int) -> int:
    if count > written:
        return int(count)
    steps = _WrittenSteps(count)
    steps.written = written
    return steps


def _names(callback: keras.callbacks.Callback) -> tuple[str, ...]:
    for name, attributes in _REMEMBERED.items():
        kind = getattr(keras.callbacks, name, None)
        if kind is not None and isinstance(callback, kind):
            return attributes
    return ()


def _is_keras(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == "keras"
