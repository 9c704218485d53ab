"""How a launcher sees where a worker stands."""

import os

from tfdp.board import layout
from tfdp.board.standing import Standing

# Both places were being written while it was read.
_TRIES = 20


class BoardReader:
    """Reads the board of one worker.

    Args:
        path: The file.

    Example:

    >>> print(BoardReader("no/such/file").read())
    None
    """

    def __init__(self, path: str) -> None:
        """Reads nothing yet."""
        self.path = path

    def read(self) -> Standing | None:
        """Returns where the worker stands; `None` if no board is there.

        Never half of two standings, whatever the worker does meanwhile.
        """
        try:
            with open(self.path, "rb", buffering=0) as file:
                for _ in range(_TRIES):
                    content = os.pread(file.fileno(), layout.LENGTH + 1, 0)
                    found = layout.newest(content)
                    if found is not None:
                        return found
        except OSError:
            pass
        return None
