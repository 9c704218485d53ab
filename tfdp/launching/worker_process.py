"""One worker: its process, what it prints, how it ends."""

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import IO, Any, cast

import psutil

from tfdp.launching.fork_server import ForkedProcess, ForkServer
from tfdp.launching.worker_failure import WorkerOutcome
from tfdp.launching.worker_pipe import LONGEST_LINE, WorkerPipe
from tfdp.machine import keep_to


class WorkerProcess:
    """Runs a command as the leader of a session, without input.

    Args:
        command: Program and arguments.
        index: Index of the worker among all of the job.
        env: All variables of the process.
        on_line: Called as `on_line(index, part, is_end)` with each line of
            output (stdout and stderr, without the line end), or the parts of
            a long one, from a thread. It must not raise.
        cores: Numbers of the cores to stay on. Defaults to `None`, no limit.
        server: Starts it instead, where it can. Defaults to `None`.
        longest_line: Characters of the longest part of a line.

    Attributes:
        index: Index of the worker.
        pid: Process id.
        keeper: Id of a process that is an ancestor of all that a forked one
            starts; else `None`.
        was_ended: Whether its group ended it, while it still ran.

    Raises:
        OSError: If the command cannot be started.

    Example:

    >>> lines = []
    >>> worker = WorkerProcess(
    ...     ["echo", "hello"],
    ...     index=0,
    ...     env={},
    ...     on_line=lambda *line: lines.append(line),
    ... )
    >>> worker.begin()
    >>> left = worker.close()
    >>> lines
    [(0, 'hello', True)]
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        index: int,
        env: Mapping[str, str],
        on_line: Callable[[int, str, bool], object],
        cores: Collection[int] | None = None,
        server: ForkServer | None = None,
        longest_line: int = LONGEST_LINE,
    ) -> None:
        """Starts the process."""
        self._started = time.monotonic()
        self._ended: float | None = None
        self._process: subprocess.Popen[bytes] | ForkedProcess
        forked = None
        if server and cores is None and server.takes(command, env):
            # Where something ends the server meanwhile, it is done without.
            with contextlib.suppress(RuntimeError):
                forked = server.start(command, env)
        if forked:
            self._process = forked
        else:
            with keep_to(cores):
                self._process = subprocess.Popen(
                    command,
                    env=env,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        self.index = index
        self.pid = self._process.pid
        self.keeper = forked.keeper if forked else None
        self.was_ended = False
        stdout = cast(IO[Any], self._process.stdout)
        self._pipe = WorkerPipe(
            os.dup(stdout.fileno()),
            lambda part, is_end: on_line(index, part, is_end),
            longest_line=longest_line,
        )
        stdout.close()

    def begin(self) -> None:
        """Has a forked one run; others do already."""
        if isinstance(self._process, ForkedProcess):
            self._process.begin()

    @property
    def is_stopped(self) -> bool:
        """Whether a signal such as SIGSTOP has stopped it."""
        with contextlib.suppress(psutil.Error):
            return psutil.Process(self.pid).status() == psutil.STATUS_STOPPED
        return False

    def poll(self) -> int | None:
        """Returns its exit code, minus the signal that killed it, or `None`."""
        code = self._process.poll()
        if code is not None and self._ended is None:
            self._ended = time.monotonic()
        return code

    def send(self, number: int) -> None:
        """Sends a signal to the process, if it still runs.

        Args:
            number: The signal.
        """
        self._process.send_signal(number)

    @property
    def outcome(self) -> WorkerOutcome:
        """What has become of it."""
        code = self.poll()
        end = time.monotonic() if self._ended is None else self._ended
        return WorkerOutcome(
            self.index, self.pid, code, end - self._started, self.was_ended
        )

    def close(self) -> list[psutil.Process]:
        """Waits for the end of the process, and reads the end of its output.

        Returns:
            Processes that it has left, which could print on.
        """
        # A large one needs a moment to go, even killed.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=60)
        self.poll()
        return self._pipe.close()
