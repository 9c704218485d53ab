"""What functions can remember from call to call."""

import collections.abc
import functools
import io
import itertools
import operator
import types
from collections.abc import Iterable, Iterator
from typing import Any

_FUNCTIONS = (types.FunctionType, types.MethodType, functools.partial)
# Of arrays, in bytes: more are data, and reading them takes time.
_LARGEST = 2**20
_KEEPS_ITSELF = (types.ModuleType, types.BuiltinFunctionType, type, io.IOBase)


def remembered_by(functions: Iterable[Any]) -> dict[str, Any]:
    """Returns the variables that functions can change, and see again.

    Those that they close over, their defaults, the objects whose methods they
    are, and the globals that they name; of functions among these, likewise. Of
    an object, its attributes. What Keras and TensorFlow restore is left out.

    Args:
        functions: Functions, methods and partial ones.

    Returns:
        Values by name.

    Example:

    >>> def noting(seen):
    ...     return lambda epoch, logs: seen.append(epoch)
    >>> remembered_by([noting([1])])
    {'seen': [1]}
    >>> remembered_by([lambda epoch, logs: print(epoch)])
    {}
    """
    found: dict[str, Any] = {}
    left = [("", each) for each in functions]
    met: set[int] = set()
    while left:
        name, value = left.pop()
        if id(value) in met:
            continue
        if isinstance(value, _FUNCTIONS):
            met.add(id(value))
            left += _variables(value)
        elif isinstance(value, (*_KEEPS_ITSELF, *_restored_types())):
            continue
        elif _is_object(value):
            if "." in name:
                # The attributes of one object are told apart, not a tree.
                continue
            met.add(id(value))
            left += [(f"{name}.{key}", of) for key, of in vars(value).items()]
        elif getattr(value, "nbytes", 0) <= _LARGEST:
            # Another function may have one of the same name.
            while name in found:
                name += "'"
            found[name] = value
    return found


def place(iterator: Iterator[Any]) -> str:
    """Returns how far an iterator is, so far as it can be told.

    Args:
        iterator: Any, which is not moved.

    Example:

    >>> numbers = iter([1, 2, 3])
    >>> before = place(numbers)
    >>> _ = next(numbers)
    >>> place(numbers) == before
    False
    """
    if isinstance(iterator, types.GeneratorType):
        frame = iterator.gi_frame
        return "ended" if frame is None else f"at {frame.f_lasti}"
    if isinstance(iterator, itertools.count):
        return repr(iterator)
    return str(operator.length_hint(iterator, -1))


def _variables(function: Any) -> list[tuple[str, Any]]:
    if isinstance(function, functools.partial):
        arguments = [*enumerate(function.args), *function.keywords.items()]
        return [
            ("", function.func),
            *((f"argument {key}", value) for key, value in arguments),
        ]
    if isinstance(function, types.MethodType):
        return [("", function.__func__), ("self", function.__self__)]
    code = function.__code__
    cells, defaults = function.__closure__ or (), function.__defaults__ or ()
    arguments = code.co_varnames[: code.co_argcount]
    values = [
        *zip(code.co_freevars, map(_content, cells), strict=True),
        *zip(reversed(arguments), reversed(defaults), strict=False),
        *(function.__kwdefaults__ or {}).items(),
    ]
    known = function.__globals__
    of_module = [(n, known[n]) for n in _names(code) if n in known]
    # What functions of other modules keep is theirs.
    return values + [
        (name, value)
        for name, value in of_module
        if getattr(value, "__globals__", known) is known
    ]


def _names(code: types.CodeType) -> list[str]:
    inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return [*code.co_names, *(n for each in inner for n in _names(each))]


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _is_object(value: Any) -> bool:
    is_data = isinstance(value, (collections.abc.Sized, Iterator))
    return hasattr(value, "__dict__") and not is_data


@functools.cache
def _restored_types() -> tuple[type, ...]:
    import keras
    import tensorflow as tf

    return (
        keras.layers.Layer,
        keras.optimizers.Optimizer,
        keras.callbacks.Callback,
        keras.metrics.Metric,
        keras.losses.Loss,
        keras.Variable,
        tf.Module,
        tf.Variable,
        tf.data.Dataset,
        tf.distribute.Strategy,
    )
