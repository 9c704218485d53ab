"""How this process spends its time, for the log of its run."""

import os
import sys
import time
import uuid
from typing import Any

import psutil

from tfdp.board import Board, Standing, own_board

_accounts: dict[str, "TimeAccount"] = {}


class TimeAccount:
    """Rows that say when this process started, and how it spends its time.

    Its launcher, where it has one that sees its board, is told of the log, and
    writes what comes after. Where there is none, the board is kept in memory.

    Args:
        log: The file.
        board: Where the process says what it is doing.
        wall_time: Seconds since 1970, now.

    Example:

    >>> board = Board(None)
    >>> account = TimeAccount("run.jsonl", board, wall_time=1000.0)
    >>> account.start(workers=1)["kind"], account.spent()["made"]
    ('start', 0)
    """

    def __init__(self, log: str, board: Board, *, wall_time: float) -> None:
        """Opens the board."""
        now = time.monotonic()
        self._board = board
        self._offset = wall_time - now
        self._before: Standing | None = None
        if board.name:
            self._name = board.name
            board.tell_log(log)
        else:
            self._name = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
            # What was done for another log is not of this one.
            self._before = board.standing
            board.keep(_process_begin())
        self._begin = now if self._before else self._standing().begun

    def start(self, workers: int) -> dict[str, Any]:
        """Returns the row of the start.

        Args:
            workers: How many train together.
        """
        return {**self._head("start", self._begin), "workers": workers}

    def spent(self) -> dict[str, Any]:
        """Returns the row of what the time was spent on so far."""
        now = time.monotonic()
        standing = self._standing()
        spent = standing.seconds_until(now)
        made = standing.made
        if self._before is not None:
            begun = self._before.seconds_until(self._begin)
            spent = {
                state: max(seconds - begun.get(state, 0.0), 0.0)
                for state, seconds in spent.items()
            }
            made -= self._before.made
        return {
            **self._head("spent", now),
            "spent": spent,
            "update": standing.update,
            "made": made,
        }

    def _head(self, kind: str, moment: float) -> dict[str, Any]:
        time_ = moment + self._offset
        return {"kind": kind, "time": time_, "attempt": self._name}

    def _standing(self) -> Standing:
        # One whose board was lost has told of it.
        return self._board.standing or Standing(since=time.monotonic())


def time_account(log: str, wall_time: float) -> TimeAccount:
    """Returns the account of this process for a log, always the same.

    Args:
        log: The file.
        wall_time: Seconds since 1970, now.
    """
    log = os.path.abspath(log)
    if log not in _accounts:
        _accounts[log] = TimeAccount(log, own_board(), wall_time=wall_time)
    return _accounts[log]


def _process_begin() -> float:
    """When this process began; now in one that somebody types into."""
    now = time.monotonic()
    if hasattr(sys, "ps1"):
        return now
    age = time.time() - psutil.Process().create_time()
    return now - max(age, 0.0)
