"""A private folder for the boards of a launcher's workers."""

import contextlib
import json
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable

from tfdp.board import layout
from tfdp.board.board_reader import BoardReader
from tfdp.board.stacks import SUFFIX
from tfdp.board.standing import Standing, State
from tfdp.settings import BOARD

# In memory, where the system has such a folder.
_PLACES = ("/dev/shm", None)


class BoardFolder:
    """Makes a board for each worker, and reads all of them.

    Nobody but this user can look into the folder. Where there is no room for
    it workers have no boards, and nothing else is different.

    Args:
        workers: Indices of the workers.

    Attributes:
        path: The folder; `None` where it could not be made.
        looked: When the launcher last looked at its workers.
        name: Its name, which no other one has; may be empty.

    Example:

    >>> folder = BoardFolder([0, 1])
    >>> variables = folder.begin(1)
    >>> folder.standings()[1].state.name
    'STARTING'
    >>> folder.close()
    """

    def __init__(self, workers: Iterable[int]) -> None:
        """Makes the folder."""
        self.path = _private_folder()
        self.name = "" if self.path is None else self.path.name
        self._last: dict[int, Standing | None] = dict.fromkeys(workers)
        self._logs: list[str] = []
        self.looked = time.monotonic()
        self._at_first_update: Callable[[Standing], object] | None = None

    @property
    def folders(self) -> list[pathlib.Path]:
        """What is to be removed where this process cannot."""
        return [] if self.path is None else [self.path]

    def begin(self, worker: int) -> dict[str, str]:
        """Makes a new board for a worker that is about to start.

        Args:
            worker: Its index.

        Returns:
            Variables for the worker, which name the board.
        """
        self._last[worker] = None
        if self.path is None:
            return {}
        file = self.path / f"worker-{worker}"
        now = time.monotonic()
        content = layout.blank(Standing(since=now, changed=now))
        try:
            # One that was started before may still write to the old file.
            file.unlink(missing_ok=True)
            file.with_suffix(SUFFIX).unlink(missing_ok=True)
            file.write_bytes(content)
        except OSError:
            return {}
        return {BOARD: os.fspath(file)}

    def stacks_file(self, worker: int) -> pathlib.Path | None:
        """Returns where a worker writes down its stacks.

        Args:
            worker: Its index.
        """
        if self.path is None:
            return None
        return self.path / f"worker-{worker}{SUFFIX}"

    def standings(self) -> dict[int, Standing | None]:
        """Returns where each worker stands, or stood when this was closed.

        `None` of one that has no board.
        """
        # Another thread may close it meanwhile.
        path = self.path
        if path is not None:
            for worker, last in list(self._last.items()):
                file = os.fspath(path / f"worker-{worker}")
                self._last[worker] = BoardReader(file).read() or last
        return dict(self._last)

    def has_begun(self) -> bool:
        """Whether a worker has written where it stands, or has no board."""
        standings = self.standings().values()
        return any(each is None or each.pid for each in standings)

    @property
    def logs(self) -> list[str]:
        """The files that workers have told of as logs of their runs."""
        if self.path is not None:
            found = []
            for worker in self._last:
                file = self.path / f"worker-{worker}{layout.LOGS}"
                # A worker may have been killed in the middle of a line.
                with contextlib.suppress(OSError, ValueError):
                    for line in file.read_text(encoding="utf-8").splitlines():
                        found.append(str(json.loads(line)))
            self._logs = list(dict.fromkeys(found))
        return self._logs

    @property
    def updates_made(self) -> int:
        """How many updates the workers have made, by the most of them."""
        standings = self.standings().values()
        return max((each.made for each in standings if each), default=0)

    @property
    def are_past_training(self) -> bool:
        """Whether a worker has come to what follows its `fit`."""
        standings = self.standings().values()
        return any(s and s.state is State.ENDED for s in standings)

    def hear_first_update(self, listener: Callable[[Standing], object]) -> None:
        """Has `look` tell of the first update, once.

        Args:
            listener: Called with where a worker stands that has made one.
        """
        self._at_first_update = listener

    def look(self, now: float) -> None:
        """Sees whether the first update was made, if anybody is to be told.

        Args:
            now: Seconds, of `time.monotonic`.
        """
        self.looked = now
        if self._at_first_update is None:
            return
        for standing in self.standings().values():
            if standing and standing.made:
                self._at_first_update(standing)
                self._at_first_update = None
                return

    def close(self) -> None:
        """Removes the folder. May be called twice."""
        self.standings()
        _ = self.logs
        if self.path is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            self.path = None


def _private_folder() -> pathlib.Path | None:
    for place in _PLACES:
        if place is None or os.path.isdir(place):
            try:
                name = tempfile.mkdtemp(prefix="tfdp-boards-", dir=place)
            except OSError:
                continue
            return pathlib.Path(name)
    return None
