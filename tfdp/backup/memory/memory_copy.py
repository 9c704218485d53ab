"""The newest backup of a run in memory, in one of two files by turns."""

import errno
import hashlib
import os
import pathlib
import stat
import warnings
from collections.abc import Callable, Mapping
from typing import Self, TypeVar

import numpy as np

from tfdp.backup.memory.memory_file import Contents, Head, read_file
from tfdp.machine import free_memory

_Read = TypeVar("_Read")


class MemoryCopy:
    """Keeps the newest backup of a run in a folder of files in memory.

    There are two files, and the older one is written, so that one is whole
    whenever its writer is killed. One that was cut short, or does not add up to
    what it says, is passed over for the other.

    Args:
        folder: A folder in memory, of this user alone.
        run: The folder of the run's backups on disk; other runs have other
            files.
    """

    def __init__(self, folder: pathlib.Path, run: pathlib.Path) -> None:
        name = hashlib.sha256(os.fsencode(os.path.realpath(run))).hexdigest()
        self._folder = folder
        self._paths = [folder / f"{name[:16]}-{place}.copy" for place in (0, 1)]

    @classmethod
    def opened(cls, folder: str, run: pathlib.Path) -> Self | None:
        """Returns the copy in a folder, if it is one to be trusted.

        Args:
            folder: Its name; empty for none.
            run: The folder of the run's backups on disk.

        Returns:
            The copy; `None`, with a warning, where the folder is not there, or
            not this user's alone.
        """
        if not folder:
            return None
        wrong = _wrong_with(folder)
        if not wrong:
            return cls(pathlib.Path(folder), run)
        warnings.warn(
            "TFDP_MEMORY_FOLDER must name a folder that is this user's alone. "
            f"Received: {folder}, {wrong}. Backups are on disk alone now; let "
            "`tfdp launch --max-restarts` make the folder, or make it by "
            "`mkdir -m 700`.",
            stacklevel=3,
        )
        return None

    def save(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes a backup in the place of the older one.

        Args:
            arrays: What to write, by name.

        Raises:
            OSError: If it cannot be written, as where there is not enough
                room for two. What was there last still is.
        """
        contents = Contents(arrays)
        self._check_room(contents.size)
        heads = map(Head.of_file, self._paths)
        orders = [-1 if head is None else head.order for head in heads]
        older = self._paths[orders.index(min(orders))]
        contents.write(older, max(orders) + 1)

    def newest(
        self, read: Callable[[Mapping[str, np.ndarray]], _Read]
    ) -> _Read | None:
        """Reads the newest backup that is whole.

        Args:
            read: Makes a backup of arrays; raises a `ValueError`, `KeyError` or
                `TypeError` of what cannot be one.

        Returns:
            What that returns, or `None` where there is none. A warning tells of
            one that is damaged; nothing of one that was cut short.
        """
        heads = [(Head.of_file(path), path) for path in self._paths]
        whole = [(head, path) for head, path in heads if head is not None]
        for head, path in sorted(whole, key=lambda each: -each[0].order):
            try:
                backup = read(read_file(path, head))
            except (
                OSError,
                ValueError,
                KeyError,
                TypeError,
                AttributeError,
                OverflowError,
                RecursionError,
            ) as error:
                warnings.warn(
                    "A backup must be readable. Received: a damaged one in "
                    f"memory, {path} ({type(error).__name__}: {error}). The "
                    "one before is used instead, or one on disk.",
                    stacklevel=2,
                )
            else:
                return backup
        return None

    def keep_newest(self) -> None:
        """Removes the file of the older one, if both are whole."""
        heads = [(Head.of_file(path), path) for path in self._paths]
        whole = [(head.order, path) for head, path in heads if head is not None]
        if len(whole) > 1:
            min(whole)[1].unlink(missing_ok=True)

    def delete(self) -> None:
        """Removes the files."""
        for path in self._paths:
            path.unlink(missing_ok=True)

    def _check_room(self, size: int) -> None:
        missing = sum(max(size - _size(path), 0) for path in self._paths)
        if not missing:
            return
        system = os.statvfs(self._folder)
        room = min(system.f_bavail * system.f_frsize, free_memory())
        if missing > room:
            raise OSError(
                errno.ENOSPC,
                f"{room / 1e6:.0f} MB are free in {self._folder}, for two "
                f"copies of {size / 1e6:.0f} MB",
            )


def _wrong_with(folder: str) -> str:
    try:
        found = os.lstat(folder)
    except (OSError, ValueError):
        return "which is not there"
    if not stat.S_ISDIR(found.st_mode):
        return "which is no folder"
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        return "which others own, or can enter"
    return ""


def _size(path: pathlib.Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0
