"""A folder in memory that outlives the processes that write to it.

Run as a program, beside the process that has made it: it needs neither tfdp
nor TensorFlow.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Self

_IN_MEMORY = "/dev/shm"


class MemoryFolder:
    """Makes a private folder, which is gone once this process is.

    Its files are not on a disk, where the system has a place for that: they
    outlive every process but this one, and not the machine.

    Args:
        env: Variables for the process that removes it, however this one dies.
        where: Folder in memory, in which it is made; where there is none, or
            nobody may write to it, it is made among temporary files. Defaults
            to `/dev/shm`.

    Attributes:
        path: The folder, which nobody else can enter.

    Raises:
        OSError: If it cannot be made, or the process not be started.

    Example:

    >>> with MemoryFolder(env={}) as folder:
    ...     folder.path.is_dir()
    True
    >>> folder.path.exists()
    False
    """

    def __init__(self, *, env: Mapping[str, str], where: str = _IN_MEMORY):
        """Makes the folder."""
        usable = os.path.isdir(where) and os.access(where, os.W_OK | os.X_OK)
        made = tempfile.mkdtemp(prefix="tfdp-", dir=where if usable else None)
        self.path = pathlib.Path(made)
        try:
            # Its input ends when this process does, also by SIGKILL.
            self._keeper = subprocess.Popen(
                [sys.executable, "-P", __file__, made],
                env=dict(env),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError:
            self.path.rmdir()
            raise

    def __enter__(self) -> Self:
        """Returns the folder."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Removes it."""
        self.close()

    def close(self) -> None:
        """Removes the folder with all that is in it. May be called twice."""
        shutil.rmtree(self.path, ignore_errors=True)
        with self._keeper:
            self._keeper.kill()


def _main(path: str) -> None:
    sys.stdin.read()
    shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    _main(sys.argv[1])
