"""What an object was given, and whether a copy of it was given the same."""

import functools
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

_ARRAYS = (np.ndarray, tf.Tensor, tf.Variable, keras.Variable)
# Two of them are two, whatever they are made of.
_WHOLE = (
    type,
    types.ModuleType,
    keras.Layer,
    keras.metrics.Metric,
    keras.optimizers.Optimizer,
    tf.distribute.Strategy,
)
_PLAIN = (bool, int, float, complex, str, bytes, type(None))


def is_plain(value: Any) -> bool:
    """Whether a value is a number, a text or nothing."""
    return isinstance(value, _PLAIN)


def are_same(value: Any, other: Any, seen: Any = ()) -> bool:
    """Whether two values behave alike, as far as their parts tell.

    Args:
        value: Anything: numbers, arrays, functions, objects, nested.
        other: Likewise.
        seen: Pairs of ids that are taken for the same, such as those of two
            objects and of what they hold of themselves.
    """
    pair = id(value), id(other)
    if value is other or pair in seen:
        return True
    if type(value) is not type(other):
        return False
    if isinstance(value, _ARRAYS):
        return np.array_equal(_numpy(value), _numpy(other))
    parts, others = _parts(value), _parts(other)
    if parts is None or others is None:
        return bool(value == other)
    seen = {*seen, pair}
    return parts.keys() == others.keys() and all(
        are_same(part, others[key], seen) for key, part in parts.items()
    )


def refers_to(value: Any, target: Any, seen: Any = ()) -> bool:
    """Whether a value holds an object, or is a function that does."""
    if value is target:
        return True
    parts = None if isinstance(value, _ARRAYS) else _parts(value)
    if parts is None or id(value) in seen:
        return False
    seen = {*seen, id(value)}
    return any(refers_to(part, target, seen) for part in parts.values())


def replaced(value: Any, replace: Callable[[Any], Any], kind: type) -> Any:
    """Returns a value with all objects of a class in it replaced.

    Args:
        value: Such an object, or lists, tuples or dicts of them.
        replace: Returns what takes the place of one.
        kind: The class. A value that holds none is returned as it is.
    """
    if isinstance(value, kind):
        return replace(value)
    if not any(isinstance(leaf, kind) for leaf in _leaves(value)):
        return value
    if isinstance(value, Mapping):
        return {k: replaced(v, replace, kind) for k, v in value.items()}
    items = [replaced(each, replace, kind) for each in value]
    return tuple(items) if isinstance(value, tuple) else items


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for each in value:
            yield from _leaves(each)
    else:
        yield value


def _parts(value: Any) -> dict[Any, Any] | None:
    """Returns what a value is made of; `None` where it is one thing."""
    if is_plain(value) or isinstance(value, _WHOLE):
        return None
    if isinstance(value, types.FunctionType):
        cells = [_content(cell) for cell in value.__closure__ or ()]
        parts = [value.__code__, value.__defaults__, value.__kwdefaults__]
        return dict(enumerate([*parts, *cells]))
    if isinstance(value, types.MethodType):
        return {"function": value.__func__, "object": value.__self__}
    if isinstance(value, functools.partial):
        return dict(enumerate([value.func, value.args, value.keywords]))
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (list, tuple)):
        return dict(enumerate(value))
    return vars(value) if hasattr(value, "__dict__") else None


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # Not filled yet.
        return None


def _numpy(value: Any) -> np.ndarray:
    return np.asarray(value.numpy() if hasattr(value, "numpy") else value)
