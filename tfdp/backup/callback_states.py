"""What callbacks are, beside the model."""

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfdp.agreement import Workers
from tfdp.backup.backup_folder import Backup
from tfdp.backup.closures import place, remembered_by
from tfdp.backup.packing import packed, unpacked
from tfdp.backup.random_numbers import restore_random_numbers
from tfdp.backup.written_logs import last_step, write_again, written
from tfdp.upstream.keras import keras_callbacks

PREFIX = "program "


class CallbackStates:
    """Reads and writes what the callbacks of a fit remember.

    Those of Keras are known, and what its loggers have written.
    Callbacks of the user's are asked, where they have both `get_state()` and
    `set_state(state)`; of others, and of functions given to a
    `LambdaCallback`, is only noticed whether they have come back as they were.

    Args:
        callbacks: Those of the `fit`, in their order.

    Raises:
        TypeError: If a `get_state` returns what is no number, string or array.
    """

    def __init__(self, callbacks: Iterable[keras.callbacks.Callback]) -> None:
        self._callbacks: dict[str, keras.callbacks.Callback] = {}
        for callback in map(_innermost, callbacks):
            kind = type(callback)
            if kind.__module__.startswith("tfdp."):
                continue
            name = f"{kind.__module__}.{kind.__qualname__}"
            count = sum(key.split()[0] == name for key in self._callbacks)
            self._callbacks[f"{name} {count}"] = callback
        self._first = {
            name: _fingerprints(callback)
            for name, callback in self._callbacks.items()
        }

    def captured(self, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
        """Returns what the callbacks remember, as JSON can hold it.

        Args:
            arrays: Where arrays are put.

        Returns:
            What `restore` takes.

        Raises:
            TypeError: If a `get_state` returns what cannot be saved.
        """
        return {
            name: {
                "keras": packed(
                    keras_callbacks.remembered(callback), PREFIX, arrays
                ),
                "own": _own_state(callback, arrays),
                "written": written(callback),
                # What a constructor was given is not for a backup to keep.
                "attributes": {
                    attribute: value
                    for attribute, value in _fingerprints(callback).items()
                    if self._first[name].get(attribute) != value
                },
            }
            for name, callback in self._callbacks.items()
        }

    def restore(
        self,
        states: Mapping[str, Any],
        arrays: Mapping[str, np.ndarray],
        *,
        batches_before: int = 0,
    ) -> None:
        """Gives callbacks what was captured, by class and place in the list.

        Args:
            states: What `captured` has returned.
            arrays: Those it has put its own into.
            batches_before: Batches the callbacks will be told of once more
                before they are where they were. Defaults to 0.
        """
        for name, callback in self._callbacks.items():
            if name not in states:
                continue
            logs = states[name].get("written", {})
            keras_callbacks.remember(
                callback,
                unpacked(states[name]["keras"], arrays),
                batches_before=batches_before,
                last_step=last_step(callback, logs),
            )
            write_again(callback, logs)
            own = states[name]["own"]
            if own is not None and _has_state(callback):
                callback.set_state(unpacked(own[0], arrays))

    def lost(self, states: Mapping[str, Any]) -> list[str]:
        """Returns which callbacks are not as they were, once restored.

        Args:
            states: What `captured` has returned.

        Returns:
            Their names, with what is lost.
        """
        found = []
        for name, callback in self._callbacks.items():
            title = type(callback).__name__
            saved = states.get(name)
            if saved is None:
                if keras_callbacks.remembered(callback) or _has_state(callback):
                    found.append(f"{title} (not in the backup)")
            elif not _has_state(callback):
                now = _fingerprints(callback)
                then = saved["attributes"]
                names = [n for n in then if now.get(n) != then[n]]
                if names:
                    found.append(f"{title} ({', '.join(names)})")
            elif saved["own"] is None:
                found.append(f"{title} (its `get_state` is new)")
        for name, saved in states.items():
            remembers = saved["keras"] != {"dict": []} or saved["own"]
            if name not in self._callbacks and remembers:
                title = name.split()[0].rpartition(".")[2]
                found.append(f"{title} (no longer among the callbacks)")
        return found

    def arrive(self, backup: Backup, strategy: Workers) -> list[str]:
        """Restores callbacks and random numbers where a backup was made.

        Args:
            backup: The backup; an older one may hold nothing of these.
            strategy: The strategy of the workers.

        Returns:
            What `lost` does.
        """
        states = backup.about.get("callbacks", {})
        self.restore(states, backup.arrays)
        if "random" in backup.about:
            restore_random_numbers(strategy, backup.about["random"])
        return self.lost(states)

    def has_stopped(self, states: Mapping[str, Any]) -> bool:
        """Whether an `EarlyStopping` had ended the training.

        Args:
            states: What `captured` has returned.
        """
        return any(
            name == "stopped_epoch" and value > 0
            for state in states.values()
            for name, value in state["keras"]["dict"]
        )


def arrays_of_model(
    arrays: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Returns the arrays of a backup that callbacks have not put there.

    Args:
        arrays: All arrays of the backup, by name.
    """
    return {n: a for n, a in arrays.items() if not n.startswith(PREFIX)}


def _innermost(
    callback: keras.callbacks.Callback,
) -> keras.callbacks.Callback:
    inner = getattr(callback, "callback", None)
    is_wrapper = isinstance(inner, keras.callbacks.Callback)
    return inner if is_wrapper and hasattr(callback, "_has_peers") else callback


def _has_state(callback: keras.callbacks.Callback) -> bool:
    names = ("get_state", "set_state")
    return all(callable(getattr(callback, name, None)) for name in names)


def _own_state(
    callback: keras.callbacks.Callback, arrays: dict[str, np.ndarray]
) -> list[Any] | None:
    if not _has_state(callback):
        return None
    try:
        return [packed(callback.get_state(), PREFIX, arrays)]
    except TypeError as error:
        raise TypeError(
            "What `get_state` of a callback returns must be of numbers, "
            f"strings and arrays. Received, of {type(callback).__name__}: "
            f"{error}."
        ) from error


def _fingerprints(callback: keras.callbacks.Callback) -> dict[str, int]:
    """Numbers that tell whether an attribute has changed."""
    attributes = {}
    if isinstance(callback, keras.callbacks.LambdaCallback):
        attributes = remembered_by(
            function
            for name, function in vars(callback).items()
            if name.startswith("on_")
        )
    if not keras_callbacks.is_keras_own(callback):
        attributes |= keras_callbacks.own_attributes(callback)
    texts = {name: _text(value) for name, value in attributes.items()}
    return {n: zlib.crc32(t.encode()) for n, t in texts.items() if t}


def _text(value: Any) -> str:
    """Its value, if it is one that can be told; of a long one its ends."""
    if value is None or isinstance(value, (bool, int, float, str, np.generic)):
        return repr(value)
    if isinstance(value, np.ndarray) and value.dtype.kind != "O":
        octets = np.ascontiguousarray(value).tobytes()
        return f"{value.shape} {zlib.crc32(octets)}"
    if isinstance(value, Mapping):
        value = [list(pair) for pair in value.items()]
    if isinstance(value, (set, frozenset)):
        value = sorted(value, key=repr)
    if isinstance(value, Sequence):
        value = list(value)
        ends = [*value[:8], *value[-8:]]
        return f"{len(value)} {[_text(each) for each in ends]}"
    return place(value) if isinstance(value, Iterator) else ""
