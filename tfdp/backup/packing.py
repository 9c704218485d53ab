"""Values of a program, as JSON and arrays: nothing that runs when read."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf


def packed(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """Returns a value as something that JSON can hold.

    Args:
        value: Numbers, strings, `None`, arrays and tensors, and lists, tuples
            and dicts of these.
        name: Begin of the names of its arrays.
        arrays: Where its arrays are put.

    Returns:
        What `unpacked` makes the value of again.

    Raises:
        TypeError: If there is something else in it.

    Example:

    >>> arrays = {}
    >>> text = packed({"best": 0.5, "seen": (1, np.ones(2))}, "mine", arrays)
    >>> unpacked(text, arrays)
    {'best': 0.5, 'seen': (1, array([1., 1.]))}
    """
    if value is None or isinstance(value, bool):
        return value
    for kind in (int, float, str):
        # Subclasses, such as NumPy's float64, become their base.
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, list):
        return [packed(each, name, arrays) for each in value]
    if isinstance(value, tuple):
        return {"tuple": [packed(each, name, arrays) for each in value]}
    if isinstance(value, Mapping):
        pairs = [[k, v] for k, v in value.items()]
        return {"dict": packed(pairs, name, arrays)}
    array = _array(value)
    key = f"{name} {len(arrays)}"
    arrays[key] = array
    if array.dtype.kind == "V":
        # NumPy's files know no bfloat16.
        arrays[key] = array.astype(np.float32)
    what = "scalar" if isinstance(value, np.generic) else "array"
    return {what: key, "dtype": array.dtype.name}


def unpacked(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Returns the value that was packed.

    Args:
        value: What `packed` has returned.
        arrays: Those it has put its own into.
    """
    if isinstance(value, list):
        return [unpacked(each, arrays) for each in value]
    if not isinstance(value, dict):
        return value
    if "tuple" in value:
        return tuple(unpacked(value["tuple"], arrays))
    if "dict" in value:
        return dict(unpacked(value["dict"], arrays))
    array = arrays[value["scalar" if "scalar" in value else "array"]]
    if array.dtype.name != value["dtype"] and array.dtype.kind == "f":
        array = array.astype(tf.as_dtype(value["dtype"]).as_numpy_dtype)
    return array[()] if "scalar" in value else array


def _array(value: Any) -> np.ndarray:
    is_array = isinstance(value, (np.ndarray, np.generic))
    if is_array or hasattr(value, "numpy"):
        array = np.array(value if is_array else value.numpy())
        if array.dtype.kind != "O":
            return array
    raise TypeError(
        "a number, a string, None, an array, or a list, tuple or dict of these "
        f"was expected, not {value!r} (of type {type(value).__name__})"
    )
