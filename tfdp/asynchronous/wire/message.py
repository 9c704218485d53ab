"""What is sent: a kind, some fields as JSON, and arrays as raw bytes.

Nothing of it is evaluated, or made an object of a class that it names.

```text
"tfa1"  length of the header (4 bytes)  length of the arrays (8 bytes)
header  {"kind": ..., "fields": {...}, "arrays": [[dtype, [shape]], ...]}
arrays  one after the other, as they lie in memory
```
"""

import json
import math
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

# A large model's names and shapes, and the configuration of its optimizer.
LONGEST_HEADER = 8 * 2**20
_BEGIN = b"tfa1"
_PREFIX = struct.Struct(">4sIQ")
PREFIX_BYTES = _PREFIX.size
_MOST_AXES = 32
_SHOWN = 60
_DTYPES = (
    {"bool", "float16", "float32", "float64", "bfloat16"}
    | {f"int{bits}" for bits in (4, 8, 16, 32, 64)}
    | {f"uint{bits}" for bits in (4, 8, 16, 32, 64)}
    | {"float8_e4m3fn", "float8_e5m2", "complex64", "complex128"}
)


class Refused(Exception):
    """What somebody sends is not what may be sent; says why."""


def shown(text: Any) -> str:
    """Returns the beginning of what somebody has sent, for a short line.

    Example:

    >>> shown(b"GET / HTTP/1.1")
    "b'GET / HTTP/1.1'"
    """
    return repr(text[:_SHOWN])[:_SHOWN]


class Message(NamedTuple):
    """What one process tells another.

    Attributes:
        kind: What it is about, a word.
        fields: Anything that JSON has, by name.
        arrays: Arrays, each of which has its own memory.
    """

    kind: str
    fields: dict[str, Any]
    arrays: Sequence[np.ndarray] = ()


class Header(NamedTuple):
    """A message whose arrays have not come yet.

    Attributes:
        kind: That of the message.
        fields: Those of the message.
        arrays: Dtype and shape of each array.
    """

    kind: str
    fields: dict[str, Any]
    arrays: list[tuple[np.dtype, tuple[int, ...]]]

    @property
    def bytes(self) -> int:
        """Length of all arrays."""
        return sum(d.itemsize * math.prod(s) for d, s in self.arrays)


def encoded(message: Message) -> list[memoryview]:
    """Returns the bytes of a message, which share the memory of its arrays.

    Args:
        message: Any message.

    Raises:
        TypeError: If an array has a dtype that is not sent.

    Example:

    >>> buffers = encoded(Message("read", {"worker": 1}))
    >>> bytes(buffers[0][:4]), bytes(buffers[1])
    (b'tfa1', b'{"kind":"read","fields":{"worker":1},"arrays":[]}')
    """
    arrays = [np.asarray(array, order="C") for array in message.arrays]
    for array in arrays:
        if array.dtype.name not in _DTYPES or not array.dtype.isnative:
            raise TypeError(
                "An array that is sent must hold numbers. Received: one of "
                f"dtype {array.dtype}. Send one of {sorted(_DTYPES)}."
            )
    header = json.dumps(
        {
            "kind": message.kind,
            "fields": message.fields,
            "arrays": [[a.dtype.name, a.shape] for a in arrays],
        },
        separators=(",", ":"),
    ).encode()
    size = sum(array.nbytes for array in arrays)
    prefix = _PREFIX.pack(_BEGIN, len(header), size)
    return [memoryview(prefix), memoryview(header), *map(memory, arrays)]


def memory(array: np.ndarray) -> memoryview:
    """Returns the bytes of an array that lies in one piece."""
    # Python knows no buffers of bfloat16.
    return array.reshape(-1).view(np.uint8).data


def lengths(prefix: bytes, *, most_bytes: int) -> tuple[int, int]:
    """Returns how long the header and the arrays of a message will be.

    Args:
        prefix: The first `PREFIX_BYTES` bytes.
        most_bytes: How many bytes of arrays may come.

    Raises:
        Refused: If it is no beginning of a message, or a length too large.
    """
    begin, header, arrays = _PREFIX.unpack(prefix)
    if begin != _BEGIN:
        raise Refused(f"it says {shown(prefix)}, which begins no message")
    if header > LONGEST_HEADER:
        raise Refused(
            f"it announces a header of {header} bytes, and {LONGEST_HEADER} "
            "are the most"
        )
    if arrays > most_bytes:
        raise Refused(
            f"it announces arrays of {arrays} bytes, and {most_bytes} are "
            "the most here"
        )
    return header, arrays


def decoded(text: bytes, *, size: int) -> Header:
    """Returns the header of a message.

    Args:
        text: Its bytes.
        size: How many bytes of arrays were announced.

    Raises:
        Refused: If it is none, or announces other arrays.
    """
    try:
        content = json.loads(text)
        header = Header(
            content["kind"],
            content["fields"],
            [_announced(*array) for array in content["arrays"]],
        )
        if type(header.kind) is not str or type(header.fields) is not dict:
            raise TypeError
    except Refused:
        raise
    except (ValueError, TypeError, KeyError, RecursionError):
        raise Refused(f"its header is {shown(text)}") from None
    if header.bytes != size:
        raise Refused(
            f"it announces {size} bytes of arrays, whose shapes take "
            f"{header.bytes}"
        )
    return header


def _announced(dtype: Any, shape: Any) -> tuple[np.dtype, tuple[int, ...]]:
    if dtype not in _DTYPES:
        raise Refused(f"it announces an array of dtype {shown(str(dtype))}")
    if len(shape) > _MOST_AXES or not all(
        type(axis) is int and 0 <= axis < 2**40 for axis in shape
    ):
        raise Refused(f"it announces an array of shape {shown(str(shape))}")
    # ml_dtypes, which Keras brings, adds its names to those of NumPy.
    return np.dtype(dtype), tuple(shape)
