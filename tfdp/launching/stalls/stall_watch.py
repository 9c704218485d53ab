"""Watches whether workers make progress."""

import math
import os
import pathlib
import tempfile
from collections.abc import Callable

from tfdp.board import BoardFolder
from tfdp.checks import checked_number
from tfdp.launching.blame import Culprit
from tfdp.launching.stalls.finding import findings
from tfdp.launching.stalls.patience import Patience
from tfdp.launching.stalls.stall import Stall

EXIT_CODE = 124
_LOOK_SECONDS = 0.25
# Looks are this far apart only if this process was itself stopped meanwhile.
_GAP_SECONDS = 1.0


class StallWatch:
    """Looks at boards, and says who keeps the others waiting.

    Progress is whatever a worker notes: a step, an update, a batch of
    validation. All workers wait for each other; so it is enough to see that
    none of them has noted anything.

    Args:
        seconds: For how long nothing may happen between steps. Defaults to
            `None`: 20 times the median update, and at least 60.
        say: Called with the report.
        ends: Whether the workers are to be ended then. Defaults to `True`;
            else they are reported on again after twice the time, and so on.
        start_seconds: For how long nothing may happen before the second update,
            between epochs, in validation and so on. Defaults to 600.
        log_dir: Folder for files with the stacks of all threads, `stall-1.txt`
            and so on. Defaults to `None`: a temporary file.
        are_all_here: Whether all workers are of this machine. Defaults to
            `True`.

    Raises:
        TypeError: If a number is none.
        ValueError: If one is not positive.

    Example:

    >>> watch = StallWatch(say=print)
    >>> boards = BoardFolder([0])
    >>> watch.look(0.0, boards)
    >>> boards.close()
    """

    def __init__(
        self,
        seconds: float | None = None,
        *,
        say: Callable[[str], object],
        ends: bool = True,
        start_seconds: float = 600.0,
        log_dir: str | os.PathLike[str] | None = None,
        are_all_here: bool = True,
    ) -> None:
        """Has seen nothing yet."""
        if seconds is not None:
            seconds = checked_number("stall_seconds", seconds)
        start_seconds = checked_number("start_seconds", start_seconds)
        self._patience = Patience(seconds, start_seconds=start_seconds)
        self._say = say
        self._ends = ends
        self._log_dir = log_dir
        self._are_all_here = are_all_here
        self._last_look = -math.inf
        self._watched_since = -math.inf
        self._told_at = 0.0

    def look(self, now: float, boards: BoardFolder) -> Culprit | None:
        """Looks at the boards, if it is time to.

        Args:
            now: Seconds, of `time.monotonic`.
            boards: Those of the workers.

        Returns:
            Who is to blame, where the workers are to be ended.
        """
        since = now - self._last_look
        if since < _LOOK_SECONDS:
            return None
        self._last_look = now
        if since > _GAP_SECONDS:
            self._watched_since = now
        standings = boards.standings()
        known = [each for each in standings.values() if each is not None]
        if not known:
            return None
        self._patience.learn(known[0])
        changed = max(each.changed for each in known)
        # They may have written since the launcher looked at its clock.
        silence = max(now - max(changed, self._watched_since), 0.0)
        limit = max(self._patience.limit(standings.values()), 2 * self._told_at)
        if silence < self._told_at:
            self._say(f"The training goes on after {self._told_at:.3g} s.")
            self._told_at = 0.0
        if silence <= limit:
            return None
        self._told_at = silence
        stall = Stall(
            silence,
            self._patience.reason(standings.values()),
            now,
            findings(boards, standings, are_woken=self._ends),
            self._are_all_here,
        )
        self._tell(stall)
        if not self._ends:
            return None
        late = stall.late or stall.findings
        return Culprit(
            late[0].worker,
            EXIT_CODE,
            stalled_seconds=silence,
            lost_at=now - silence,
        )

    def _tell(self, stall: Stall) -> None:
        try:
            file = self._written(stall)
        except OSError as error:
            told = f"Stacks of all threads: not written ({error.strerror})."
        else:
            told = f"Stacks of all threads: {file}"
        self._say(f"{stall}\n{told}")

    def _written(self, stall: Stall) -> pathlib.Path:
        if self._log_dir is None:
            number, name = tempfile.mkstemp(prefix="tfdp-stall-", suffix=".txt")
            os.close(number)
            file = pathlib.Path(name)
        else:
            folder = pathlib.Path(self._log_dir)
            folder.mkdir(parents=True, exist_ok=True)
            count = sum(1 for _ in folder.glob("stall-*.txt"))
            file = folder / f"stall-{count + 1}.txt"
        file.write_text(stall.stacks)
        return file
