"""Memory that a worker shares with its program for gradients."""

import math
import mmap
import os
import threading
import weakref

import numpy as np


class SharedMemory:
    """Arrays of float32 in memory that another process has, too.

    Each lies at the begin of a page, so that TensorFlow takes it for a tensor
    as it is. Its place is used again once nobody has it any more: neither
    this process's arrays, nor a tensor that was made of one.

    Attributes:
        file: Number of the open file, for a child process.

    Example:

    >>> memory = SharedMemory()
    >>> place, array = memory.array((2, 3))
    >>> place, array.shape, memory.num_places
    (0, (2, 3), 1)
    >>> memory.array((6,))[0] == place, memory.num_places
    (False, 2)
    >>> del array
    >>> memory.array((6,))[0] == place, memory.num_places
    (True, 2)
    """

    def __init__(self) -> None:
        self.file = os.memfd_create("tfdp gradients", os.MFD_CLOEXEC)
        self._size = 0
        self._lock = threading.Lock()
        self._places: dict[int, list[_Place]] = {}

    @property
    def num_places(self) -> int:
        """How many arrays there is room for."""
        return sum(map(len, self._places.values()))

    def array(self, shape: tuple[int, ...]) -> tuple[int, np.ndarray]:
        """Returns where an array lies that nobody else has, and the array.

        Args:
            shape: Its shape; of at least one number.
        """
        size = _whole_pages(4 * math.prod(shape))
        with self._lock:
            places = self._places.setdefault(size, [])
            free = next((each for each in places if each.is_free), None)
            if free is None:
                free = self._more(size)
                places.append(free)
            return free.begin, free.lend(shape)

    def close(self) -> None:
        """Lets go of the file; arrays that somebody has stay."""
        if self.file >= 0:
            os.close(self.file)
            self.file = -1

    def _more(self, size: int) -> "_Place":
        begin, self._size = self._size, self._size + size
        os.ftruncate(self.file, self._size)
        return _Place(begin, mmap.mmap(self.file, size, offset=begin))


class _Place:
    def __init__(self, begin: int, memory: mmap.mmap) -> None:
        self.begin = begin
        self._memory = memory
        self._lent: weakref.ref[np.ndarray] | None = None

    @property
    def is_free(self) -> bool:
        return self._lent is None or self._lent() is None

    def lend(self, shape: tuple[int, ...]) -> np.ndarray:
        # Views of it name it as their base, and keep it alive.
        array = np.ndarray(shape, np.float32, self._memory)
        self._lent = weakref.ref(array)
        return array


def _whole_pages(size: int) -> int:
    page = mmap.ALLOCATIONGRANULARITY
    return -(-size // page) * page
