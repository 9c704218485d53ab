"""A file in memory with arrays by name, all of them or nothing."""

import dataclasses
import json
import os
import pathlib
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any, Self

import numpy as np

# A mark, the order, bytes of the table and of the arrays, what both add up to;
# then what these do.
_HEAD = struct.Struct("<8sQQQIQ")
_CHECK = struct.Struct("<I")
_MARK = b"tfdp 1\n\0"
_BEGIN = _HEAD.size + _CHECK.size


@dataclasses.dataclass(frozen=True)
class Head:
    """What a file begins with, once all else is written.

    Attributes:
        order: Which of several files is the newest.
        table_size: Bytes of the table of names, types and shapes.
        size: Bytes of the arrays.
        table_check: What the bytes of the table add up to.
        check: What those of the arrays do.
    """

    order: int
    table_size: int
    size: int
    table_check: int
    check: int

    def to_bytes(self) -> bytes:
        """Returns what is written."""
        head = _HEAD.pack(_MARK, *dataclasses.astuple(self))
        return head + _CHECK.pack(zlib.crc32(head))

    @classmethod
    def of_file(cls, path: pathlib.Path) -> Self | None:
        """Returns that of a file; `None` if it is not there, or not whole.

        Args:
            path: The file.
        """
        try:
            with _opened(path) as file:
                read = file.read(_BEGIN)
        except OSError:
            return None
        if len(read) != _BEGIN or not read.startswith(_MARK):
            return None
        head = read[: _HEAD.size]
        (check,) = _CHECK.unpack(read[_HEAD.size :])
        is_whole = zlib.crc32(head) == check
        return cls(*_HEAD.unpack(head)[1:]) if is_whole else None


class Contents:
    """Arrays as they lie in a file.

    Args:
        arrays: The arrays by name, which are not copied.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        rows = [[n, a.dtype.str, list(a.shape)] for n, a in arrays.items()]
        self._table = json.dumps(rows).encode()
        self._parts = [_octets(array) for array in arrays.values()]
        self._size = sum(part.size for part in self._parts)

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return _BEGIN + len(self._table) + self._size

    def write(self, path: pathlib.Path, order: int) -> None:
        """Writes the file; where that is cut short, nothing is there.

        Args:
            path: The file, which nobody reads any more.
            order: What makes it the newest.

        Raises:
            OSError: If it cannot be written.
        """
        head = Head(
            order,
            len(self._table),
            self._size,
            zlib.crc32(self._table),
            _check(self._parts),
        )
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            os.pwrite(descriptor, bytes(_BEGIN), 0)
            place = _BEGIN
            parts = [np.frombuffer(self._table, np.uint8), *self._parts]
            for part in parts:
                place = _write(descriptor, part, place)
            # Nothing is here before this is.
            os.pwrite(descriptor, head.to_bytes(), 0)
        except OSError:
            os.ftruncate(descriptor, 0)
            raise
        finally:
            os.close(descriptor)


def read_file(path: pathlib.Path, head: Head) -> dict[str, np.ndarray]:
    """Reads what was written.

    Args:
        path: The file.
        head: What it begins with.

    Returns:
        The arrays by name.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is damaged; `KeyError` and others, too.
    """
    with _opened(path) as file:
        there = os.fstat(file.fileno()).st_size
        if _BEGIN + head.table_size + head.size > there:
            raise ValueError("it is too short")
        file.seek(_BEGIN)
        table = file.read(head.table_size)
        if zlib.crc32(table) != head.table_check:
            raise ValueError("its table is damaged")
        arrays = dict(_read(file, json.loads(table), head.size))
    if _check(map(_octets, arrays.values())) != head.check:
        raise ValueError("its arrays are damaged")
    return arrays


def _opened(path: pathlib.Path) -> IO[bytes]:
    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW)

    return open(path, "rb", opener=opener)


def _write(descriptor: int, part: np.ndarray, place: int) -> int:
    """Writes at a place; returns the next one."""
    while part.size:
        # Of 2 GiB at most.
        written = os.pwrite(descriptor, part.data, place)
        part, place = part[written:], place + written
    return place


def _read(
    file: IO[bytes], rows: Any, left: int
) -> Iterator[tuple[str, np.ndarray]]:
    for name, kind, shape in rows:
        dtype = np.dtype(kind)
        size = dtype.itemsize * int(np.prod(shape, dtype=object))
        if dtype.hasobject or min(shape, default=0) < 0 or size > left:
            raise ValueError(f"{name!r} cannot be {kind} of shape {shape}")
        left -= size
        octets = np.frombuffer(bytearray(file.read(size)), np.uint8)
        yield name, octets.view(dtype).reshape(shape)


def _octets(array: np.ndarray) -> np.ndarray:
    # Copies what does not lie in order.
    return array.reshape(-1).view(np.uint8)


def _check(parts: Iterable[np.ndarray]) -> int:
    """A number that differs where bytes do, found faster than they are copied.

    Each file lies in the memory of a machine, and is whole or has no head: so
    it need not find as much as a check of what has travelled.
    """
    total = 0
    for part in parts:
        words = part[: part.size // 8 * 8].view(np.uint64)
        rest = int.from_bytes(part[words.nbytes :].tobytes(), "little")
        # By an odd number, so that nothing is lost, and the place counts.
        total = total * 0x9E3779B97F4A7C15 + int(words.sum()) + rest
        total = (total + part.size) % 2**64
    return total
