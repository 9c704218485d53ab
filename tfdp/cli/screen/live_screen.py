"""A terminal on which lines scroll above a table of the workers."""

import collections
import contextlib
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import psutil
from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from tfdp.board import BoardFolder
from tfdp.cli.screen.pace import Pace
from tfdp.cli.screen.worker_row import WorkerRow, clock
from tfdp.cli.screen.worker_table import worker_table
from tfdp.cli.worker_lines import say

_SECONDS = 0.2


class Watched(Protocol):
    """Workers, as `tfdp.launching.WorkerGroup` has them."""

    boards: BoardFolder

    @property
    def pids(self) -> Mapping[int, int]:
        """Process id of each worker."""


class LiveScreen:
    """Shows what workers print, and below it where each of them stands.

    One thread does all of that, some times a second: whoever prints only hands
    it over, so that nobody waits for the terminal, and a signal may come at any
    time. Where the terminal is gone nothing is shown any more.

    Args:
        console: The terminal.
        styles: Colors of the workers, in turn.
        now: Returns the time. Defaults to `time.monotonic`, that of boards.
    """

    def __init__(
        self,
        console: Console,
        *,
        styles: tuple[str, ...],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Shows nothing yet."""
        self._console = console
        self._styles = styles
        self._now = now
        self._begun = now()
        self._pending: collections.deque[tuple[int | None, str]] = (
            collections.deque()
        )
        self._last_lines: dict[int, str] = {}
        self._paces: dict[int, Pace] = {}
        self._group: Watched | None = None
        self._live = Live(
            console=console,
            auto_refresh=False,
            redirect_stdout=False,
            # What is said to another place stays there.
            redirect_stderr=sys.stderr.isatty(),
        )
        self._ends = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, group: Watched) -> None:
        """Shows the workers of a group, from now on.

        Args:
            group: One that has begun.
        """
        self._paces = collections.defaultdict(Pace)
        self._last_lines = {}
        self._group = group
        if self._thread is None:
            self._live.start()
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()

    def print(self, worker: int, line: str) -> None:
        """Prints a line above the table.

        Args:
            worker: Index of the worker.
            line: The line, without its end.
        """
        self._last_lines[worker] = line
        self._pending.append((worker, line))

    def say(self, message: str) -> None:
        """Prints a message of the launcher's own above the table.

        Args:
            message: The message.
        """
        if sys.stderr.isatty():
            self._pending.append((None, message))
        else:
            say(message)

    def close(self) -> None:
        """Shows the last of it, and gives the terminal back."""
        self._ends.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        with contextlib.suppress(OSError):
            self._draw()
            self._live.stop()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while not self._ends.wait(_SECONDS):
                self._draw()

    def _draw(self) -> None:
        lines = []
        while self._pending:
            lines.append(self._text(*self._pending.popleft()))
        if self._group is not None:
            self._live.update(self._table(self._group))
        if lines:
            # As long as they are, so that who copies them has them whole.
            self._console.print(*lines, sep="\n", soft_wrap=True)
        elif self._group is not None:
            self._live.refresh()

    def _text(self, worker: int | None, line: str) -> Text:
        if worker is None:
            return Text(line)
        style = self._styles[worker % len(self._styles)]
        text = Text.from_ansi(line)
        return Text.assemble((f"[worker {worker}] ", style), text)

    def _table(self, group: Watched) -> RenderableType:
        now = self._now()
        pids = group.pids
        rows = []
        for worker, standing in group.boards.standings().items():
            pace = self._paces[worker]
            if standing is not None:
                pace.see(standing)
            rows.append(
                WorkerRow.of(
                    worker,
                    standing,
                    pace,
                    now=now,
                    memory=_memory(pids[worker]),
                    line=self._last_lines.get(worker, ""),
                )
            )
        size = self._console.size
        title = self._title(rows, now)
        return worker_table(rows, title, width=size.width, height=size.height)

    def _title(self, rows: Sequence[WorkerRow], now: float) -> str:
        words = [f"{len(rows)} worker{'s' * (len(rows) != 1)}"]
        rates = [
            self._paces[int(row.worker)].samples_per_second for row in rows
        ]
        if rates and None not in rates:
            words.append(f"{sum(filter(None, rates)):,.0f} samples/s")
        return " · ".join([*words, clock(now - self._begun)])


def _memory(pid: int) -> int | None:
    """Returns the bytes of a process; `None` where it has ended."""
    with contextlib.suppress(psutil.Error):
        # One that nobody has waited for has none.
        return psutil.Process(pid).memory_info().rss or None
    return None
