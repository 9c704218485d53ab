"""One worker: its process, what it prints, how it ends."""

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TextIO

import psutil

from tfdp.launch.fork_server import ForkedProcess, ForkServer
from tfdp.launch.worker_failure import WorkerOutcome
from tfdp.machine import keep_to


class WorkerProcess:
    """Runs a command as the leader of a session, without input.

    Args:
        command: Program and arguments.
        index: Index of the worker among all of the job.
        env: All variables of the process.
        on_line: Called as `on_line(index, line)` with each line of output
            (stdout and stderr, without the line end), from a thread. It must
            not raise.
        cores: Numbers of the cores to stay on. Defaults to `None`, no limit.
        server: Starts it instead, where it can. Defaults to `None`.

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
    >>> worker.close()
    >>> lines
    [(0, 'hello')]
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        index: int,
        env: Mapping[str, str],
        on_line: Callable[[int, str], object],
        cores: Collection[int] | None = None,
        server: ForkServer | None = None,
    ) -> None:
        """Starts the process."""
        self._started = time.monotonic()
        self._ended: float | None = None
        self._process: subprocess.Popen[str] | ForkedProcess
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
                    encoding="utf-8",
                    errors="replace",
                    start_new_session=True,
                )
        self.index = index
        self.pid = self._process.pid
        self.keeper = forked.keeper if forked else None
        self.was_ended = False
        self._on_line = on_line
        self._pump = threading.Thread(
            target=self._read, args=(self._process.stdout,), daemon=True
        )
        self._pump.start()

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

    def close(self) -> None:
        """Waits for the end of the process and of its output."""
        # A large one needs a moment to go, even killed.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=60)
        self.poll()
        self._pump.join(timeout=5)

    def _read(self, output: TextIO) -> None:
        # Reads on whatever happens: a worker blocks once its pipe is full.
        with output:
            for line in output:
                self._on_line(self.index, line.removesuffix("\n"))
