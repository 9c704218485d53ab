"""What layers keep while they run, which is each replica's own.

The replicas of a process share the layers. They take turns where they meet, as
in a synchronized `BatchNormalization`, in the middle of a forward pass. Keras's
layers keep what `add_loss` is given, masks of dropout, and so on, and layers of
the user's own may keep any tensor: what one replica has left there must not be
found by another.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import keras
import tensorflow as tf

from tfdp.upstream.keras import inspection
from tfdp.upstream.tensorflow import tf_replicas

_TENSORS = (tf.Tensor, tf.SparseTensor, tf.RaggedTensor)
_OTHERS = {"builtins", "keras", "numpy", "tensorflow", "tfdp"}
_DEPTH = 4  # Of functions and objects that hold others.


def taking_turns(
    fn: Callable[..., Any],
) -> contextlib.AbstractContextManager[None]:
    """Keeps apart what replicas leave in the layers that a step uses.

    Entered on each replica, around the step.

    Args:
        fn: What was given to a strategy to run.
    """
    roots = _layers_behind([fn], _DEPTH)
    return tf_replicas.around_turns(_Turns(list(roots)))


class _Turns:
    """Leaves layers to others as they were found, and takes them up again."""

    def __init__(self, roots: list[keras.layers.Layer]) -> None:
        self._roots = roots
        self._found = self._kept()
        self._own = self._found

    def __enter__(self) -> None:
        self._own = self._kept()
        self._put(self._found)

    def __exit__(self, *exception: Any) -> None:
        self._put(self._own)

    def _kept(self) -> dict[int, dict[str, Any]]:
        return {
            id(layer): {name: _copied(v) for name, v in vars(layer).items()}
            for layer in self._layers()
        }

    def _put(self, kept: dict[int, dict[str, Any]]) -> None:
        for layer in self._layers():
            before = kept.get(id(layer), {})
            # Otherwise others would take it for built, and miss a part.
            was_built = before.get("built", False)
            for name, value in list(vars(layer).items()):
                if name in before:
                    if _holds_tensors(value) or _holds_tensors(before[name]):
                        _restore(vars(layer), name, before[name])
                elif was_built and _holds_tensors(value):
                    del vars(layer)[name]
            for name in before.keys() - vars(layer).keys():
                if _holds_tensors(before[name]):
                    vars(layer)[name] = before[name]

    def _layers(self) -> Iterator[keras.layers.Layer]:
        seen = set()
        for root in self._roots:
            for layer in (root, *inspection.layers(root)):
                if id(layer) not in seen:
                    seen.add(id(layer))
                    yield layer


def _copied(value: Any) -> Any:
    if isinstance(value, list):
        return list(value)
    return dict(value) if isinstance(value, dict) else value


def _restore(attributes: dict[str, Any], name: str, before: Any) -> None:
    now = attributes[name]
    if isinstance(now, list) and isinstance(before, list):
        now[:] = before
    elif isinstance(now, dict) and isinstance(before, dict):
        now.clear()
        now.update(before)
    else:
        attributes[name] = before


def _holds_tensors(value: Any) -> bool:
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return isinstance(value, _TENSORS)
    return any(isinstance(each, _TENSORS) for each in value)


def _layers_behind(
    values: Iterable[Any], depth: int, seen: set[int] | None = None
) -> Iterator[keras.layers.Layer]:
    """Finds layers that functions and objects refer to."""
    seen = set() if seen is None else seen
    for value in values:
        if id(value) in seen or isinstance(value, type):
            continue
        seen.add(id(value))
        if isinstance(value, keras.layers.Layer):
            yield value
        elif depth:
            yield from _layers_behind(_behind(value), depth - 1, seen)


def _behind(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, list | tuple):
        return value
    # Methods, partial functions, those of `tf.function`, and wrapped ones.
    inside = [
        getattr(value, name, None)
        for name in ("__self__", "func", "args", "python_function")
    ]
    inside.append(getattr(value, "__wrapped__", None))
    function = getattr(value, "__func__", value)
    if inspect.isfunction(function):
        variables = inspect.getclosurevars(function)
        return [
            *inside,
            *variables.nonlocals.values(),
            *variables.globals.values(),
        ]
    library = type(value).__module__.partition(".")[0]
    if hasattr(value, "__dict__") and library not in _OTHERS:
        inside += vars(value).values()
    return inside
