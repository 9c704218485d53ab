"""What this process has done, state by state, for a timeline."""

from collections.abc import Callable

import numpy as np

from tfdp.board import Board, State
from tfdp.throughput import no_rows, state_row

_OF_STEPS = (
    *(State.FIRST_STEP, State.TRAINING, State.CALLBACKS, State.WAITING),
)
# What is shorter, of a step that is not told, is part of many of them.
_SHORT = 0.001
# More than that in a window is no timeline any more.
_MOST_ROWS = 10_000


class Diary:
    """Notes the states of this process: those of some steps, and all others.

    Between the steps that are told, all others are one state, `"steps"`.

    Args:
        board: Where the process says what it is doing.
        clock: Returns the time by which it is told; the board has another.

    Attributes:
        tells_step: Whether the step that is under way is told.

    Example:

    >>> from tfdp.board import Board
    >>> diary = Diary(Board(None), lambda: 100.0)
    >>> diary.take().shape
    (0, 6)
    """

    NAMES = (*(state.name.lower() for state in State), "vote", "steps")

    def __init__(self, board: Board, clock: Callable[[], float]) -> None:
        """Begins to watch."""
        self._board = board
        self.tells_step = True
        self._rows: list[tuple[float, ...]] = []
        self._steps_since: float | None = None
        # Where nobody else sees the board.
        board.keep(board.now())
        self._offset = clock() - board.now()
        standing = board.standing
        if standing is not None and not standing.step:
            self._add(State.STARTING, standing.begun, standing.since)
        board.watch(self._note)

    def take(self) -> np.ndarray:
        """Returns rows as of `tfdp.throughput.spans`, and forgets them."""
        if self._steps_since is not None:
            now = self._board.now()
            self._end_steps(now)
            self._steps_since = now
        rows, self._rows = self._rows[:_MOST_ROWS], []
        return np.array(rows) if rows else no_rows()

    def close(self) -> None:
        """Watches no more."""
        self._board.watch(None)

    def _note(self, state: State, words: str, begin: float, end: float) -> None:
        is_of_step = state in _OF_STEPS or end - begin < _SHORT
        if is_of_step and not self.tells_step:
            if self._steps_since is None:
                self._steps_since = begin
            return
        self._end_steps(begin)
        name = "vote" if "vote" in words else state.name.lower()
        self._add(self.NAMES.index(name), begin, end)

    def _end_steps(self, end: float) -> None:
        if self._steps_since is not None:
            steps = self.NAMES.index("steps")
            self._add(steps, self._steps_since, end)
            self._steps_since = None

    def _add(self, name: int, begin: float, end: float) -> None:
        if end > begin:
            row = state_row(name, begin + self._offset, end + self._offset)
            self._rows.append(row)
