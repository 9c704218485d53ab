"""A program in a terminal, of which is known what its screen shows."""

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time

import pyte


class Terminal:
    """Runs a command in a pseudo-terminal, and draws what it writes.

    Attributes:
        raw: All that was written.
        screen: What a person would see, with what has scrolled away.
    """

    def __init__(self, command, *, columns=100, lines=24, **variables):
        self._controller, terminal = pty.openpty()
        size = struct.pack("HHHH", lines, columns, 0, 0)
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)
        self._before = termios.tcgetattr(terminal)
        self._terminal = terminal
        env = {**os.environ, "TERM": "xterm-256color", **variables}
        for name in ("CI", "JPY_PARENT_PID", "COLUMNS", "LINES", "NO_COLOR"):
            if name not in variables:
                env.pop(name, None)
        self.raw = ""
        self.screen = pyte.HistoryScreen(columns, lines, history=10_000)
        self._stream = pyte.ByteStream(self.screen)
        self._process = subprocess.Popen(
            list(map(str, command)),
            env=env,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
            preexec_fn=_take_terminal,
        )

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._controller)
        os.close(self._terminal)

    @property
    def shown(self):
        """Lines on the screen."""
        return [line.rstrip() for line in self.screen.display]

    @property
    def history(self):
        """Lines on the screen, after those that have scrolled away."""
        gone = [
            "".join(row[x].data for x in range(self.screen.columns)).rstrip()
            for row in self.screen.history.top
        ]
        return gone + self.shown

    @property
    def shows_cursor(self):
        return not self.screen.cursor.hidden

    @property
    def is_as_before(self):
        return termios.tcgetattr(self._terminal) == self._before

    def type(self, text):
        os.write(self._controller, text.encode())

    def wait_for(self, condition, seconds=60):
        """Reads until something holds of the screen."""
        deadline = time.monotonic() + seconds
        while not condition():
            shown = "\n".join(self.shown)
            assert time.monotonic() < deadline, f"not in time:\n{shown}"
            is_over = self._process.poll() is not None
            assert self._read(0.05) or not is_over or condition(), shown

    def exit_code(self, seconds=60):
        """Reads to the end."""
        self.wait_for(lambda: self._process.poll() is not None, seconds)
        while self._read(0.1):
            pass
        return self._process.returncode

    def _read(self, seconds):
        if select.select([self._controller], [], [], seconds)[0]:
            with contextlib.suppress(OSError):
                data = os.read(self._controller, 2**16)
                self.raw += data.decode(errors="replace")
                self._stream.feed(data)
                return True
        return False


def _take_terminal():
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
