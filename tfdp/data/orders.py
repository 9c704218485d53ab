"""What may decide on an order: attributes, each as a number."""

import os
import random
import zlib
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

_LARGE = 1_000_000
_SAMPLED = 16_384
_PLAIN = (int, float, str, bytes, np.generic, os.PathLike)


def orders(owner: Any, prefix: str = "") -> dict[str, int]:
    """Returns a digest of each attribute that may decide on an order.

    These are arrays, sequences of numbers, names or tuples of them, and
    generators of random numbers; those of a `PyDataset` inside, too. Of large
    ones some elements are looked at.

    Args:
        owner: The object.
        prefix: What the names begin with.
    """
    found: dict[str, int] = {}
    for name, value in vars(owner).items():
        if isinstance(value, keras.utils.PyDataset):
            found |= orders(value, f"{prefix}{name}.")
            continue
        digest = _digest(value)
        if digest is not None:
            found[prefix + name] = digest
    return found


def _digest(value: Any) -> int | None:
    state = _state(value)
    if state is not None:
        return _crc(
            np.asarray(leaf).tolist() for leaf in keras.tree.flatten(state)
        )
    if isinstance(value, tf.Tensor) or hasattr(value, "to_numpy"):
        value = np.asarray(value)
    if isinstance(value, np.ndarray):
        flat = value.flat[:: _stride(value.size)]
        if not value.dtype.hasobject:
            return zlib.crc32(np.ascontiguousarray(flat).tobytes())
        value = flat.tolist()
    if not isinstance(value, (list, tuple)):
        return None
    sampled = value[:: _stride(len(value))]
    return _crc(sampled) if all(map(_is_plain, sampled)) else None


def _state(value: Any) -> Any:
    if isinstance(value, random.Random):
        return value.getstate()
    if isinstance(value, np.random.RandomState):
        return value.get_state()
    if isinstance(value, np.random.Generator):
        return value.bit_generator.state
    return None


def _stride(size: int) -> int:
    return size // _SAMPLED if size > _LARGE else 1


def _is_plain(element: Any) -> bool:
    if isinstance(element, (list, tuple)):
        return all(isinstance(each, _PLAIN) for each in element)
    return isinstance(element, _PLAIN)


def _crc(values: Iterable[Any]) -> int:
    digest = 0
    for value in values:
        digest = zlib.crc32(repr(value).encode(), digest)
    return digest
