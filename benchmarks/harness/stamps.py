"""Times of updates, by whoever makes them, for who kills them to read."""

import collections
import os
import pathlib
import time

# Updates between two backups.
EVERY = 10
NAME = "updates.txt"
Stamp = collections.namedtuple("Stamp", "rank pid update when")


class Stamps:
    """Appends the updates of one process to a file that all share.

    Args:
        folder: Where the file is.
        rank: Which worker this is.
    """

    def __init__(self, folder, rank):
        self._file = open(pathlib.Path(folder) / NAME, "a", buffering=1)  # noqa: SIM115
        self._who = f"{rank} {os.getpid()}"

    def update(self, number):
        """Writes that an update has ended. The machine has one such clock."""
        self._file.write(f"{self._who} {number} {time.monotonic()}\n")


def stamps(folder):
    """Returns all that were written so far."""
    path = pathlib.Path(folder) / NAME
    lines = path.read_text().splitlines() if path.exists() else []
    return [
        Stamp(int(rank), int(pid), int(update), float(when))
        for rank, pid, update, when in map(str.split, lines)
    ]
