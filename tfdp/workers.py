"""Local worker processes, started, watched and ended together.

Environment variables set for a worker: `TF_CONFIG`, `PYTHONUNBUFFERED`, and
`TFDP_WORKER_GROUP`, by which every process of the group can be found.
`TF_CPP_MIN_LOG_LEVEL` is set to 2 (errors only) where it is unset.
"""

import collections
import contextlib
import dataclasses
import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TextIO

import psutil

_MARK = "TFDP_WORKER_GROUP"
_POLL_SECONDS = 0.02


@dataclasses.dataclass(frozen=True)
class WorkerFailure:
    """The failure that ended a group of workers; `str()` tells it to a user.

    Attributes:
        worker: Index of the worker that failed first.
        exit_code: Its exit code; 128 plus the signal where one killed it.
        signal_name: Name of that signal (`"SIGSEGV"`), or `None`.
        last_lines: The end of its output.
    """

    worker: int
    exit_code: int
    signal_name: str | None
    last_lines: tuple[str, ...]

    def __str__(self) -> str:
        """Says which worker failed, how, and what it printed last."""
        how = (
            f"was killed by {self.signal_name} (exit code {self.exit_code})"
            if self.signal_name
            else f"failed with exit code {self.exit_code}"
        )
        return (
            f"Worker {self.worker} {how}. All other workers were ended.\n"
            + _quoted(self.worker, self.last_lines)
        )


class WorkerGroup:
    """Runs a command as several processes that find each other by `TF_CONFIG`.

    Like `subprocess.Popen`, making the object starts the processes. They
    listen on free ports of 127.0.0.1, read no input, and end together: after
    `wait` or `stop`, or at the end of a `with` block, none of them is left,
    nor any process they started. The same holds when this process dies,
    however it dies. POSIX systems only.

    Args:
        command: Program and arguments, the same for every worker.
        num_workers: Number of processes; at least 1.
        env: Variables to set for the workers, besides those of this process.
            Defaults to none.
        on_line: Called as `on_line(worker, line)` with each line of output
            (stdout and stderr, without the line end), from a thread, one call
            at a time. What it raises, `wait` raises. Defaults to nothing.
        keep_lines: Number of last lines per worker to show when something
            fails. Defaults to 20.
        grace_seconds: Time between SIGTERM and SIGKILL for a worker that is
            to end. Defaults to 5.

    Raises:
        ValueError: If `num_workers` is below 1.
        OSError: If the command cannot be started.

    Example:

    >>> with WorkerGroup(["true"], num_workers=2) as group:
    ...     failure = group.wait(timeout=60)
    >>> print(failure)
    None
    """

    def __init__(
        self,
        command: Sequence[str],
        num_workers: int,
        *,
        env: Mapping[str, str] | None = None,
        on_line: Callable[[int, str], object] | None = None,
        keep_lines: int = 20,
        grace_seconds: float = 5.0,
    ) -> None:
        """Starts the workers."""
        if num_workers < 1:
            raise ValueError(
                "A group must have at least one worker. Received: "
                f"num_workers={num_workers}. Use 1 for a single process."
            )
        self._on_line = on_line
        self._on_line_error: Exception | None = None
        self._on_line_lock = threading.Lock()
        self._grace_seconds = grace_seconds
        self._mark = uuid.uuid4().hex
        self._processes: list[subprocess.Popen[str]] = []
        self._pumps: list[threading.Thread] = []
        self._last_lines: list[collections.deque[str]] = []
        self._guardian = _start_guardian(self._mark)
        variables = {
            "TF_CPP_MIN_LOG_LEVEL": "2",
            **os.environ,
            **(env or {}),
            "PYTHONUNBUFFERED": "1",
            _MARK: self._mark,
        }
        try:
            for tf_config in _tf_configs(num_workers):
                self._start(
                    command, {**variables, "TF_CONFIG": tf_config}, keep_lines
                )
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> "WorkerGroup":
        """Returns the group, which is already running."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Ends what still runs."""
        self.stop()

    def wait(self, timeout: float | None = None) -> WorkerFailure | None:
        """Waits until every worker has ended with 0, or one has failed.

        Whatever the outcome, nothing of the group is left running.

        Args:
            timeout: Seconds after which to end the workers. Defaults to
                `None`, no limit.

        Returns:
            `None` on success, otherwise the first failure. Of workers that
            failed within the same 20 ms, one killed by a signal is blamed,
            otherwise the one with the lowest index.

        Raises:
            TimeoutError: If a worker still ran after `timeout`.
            Exception: What `on_line` raised.
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            codes = [process.poll() for process in self._processes]
            failures = {w: code for w, code in enumerate(codes) if code}
            running = [w for w, code in enumerate(codes) if code is None]
            timed_out = time.monotonic() >= deadline
            if failures or not running or timed_out or self._on_line_error:
                break
            time.sleep(_POLL_SECONDS)
        self.stop()
        if self._on_line_error:
            raise self._on_line_error
        if failures:
            first = min(failures, key=lambda w: (failures[w] > 0, w))
            return self._failure(first, failures[first])
        if running:
            logs = "\n".join(
                _quoted(worker, lines)
                for worker, lines in enumerate(self._last_lines)
            )
            raise TimeoutError(
                f"Workers must end within timeout={timeout:g} seconds. "
                f"Received: workers {running} still running; they were "
                "ended. Pass a larger `timeout`, or find out what they waited "
                f"for.\n{logs}"
            )
        return None

    def stop(self) -> None:
        """Ends every process of the group: SIGTERM, then SIGKILL.

        Does nothing where they have ended already.
        """
        sessions = {process.pid for process in self._processes}
        _signal_all(_members(self._mark, sessions), signal.SIGTERM)
        deadline = time.monotonic() + self._grace_seconds
        while time.monotonic() < deadline and _members(self._mark, sessions):
            time.sleep(_POLL_SECONDS)
        _kill(self._mark, sessions)
        with self._guardian:
            self._guardian.kill()
        for process in self._processes:
            # A large one needs a moment to go, even killed.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=60)
        for pump in self._pumps:
            pump.join(timeout=5)

    def _start(
        self, command: Sequence[str], env: Mapping[str, str], keep_lines: int
    ) -> None:
        process = subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        worker = len(self._processes)
        self._processes.append(process)
        self._last_lines.append(collections.deque(maxlen=keep_lines))
        print(process.pid, file=self._guardian.stdin, flush=True)
        pump = threading.Thread(
            target=self._pump, args=(worker, process.stdout), daemon=True
        )
        self._pumps.append(pump)
        pump.start()

    def _pump(self, worker: int, output: TextIO) -> None:
        # Reads on whatever happens: a worker blocks once its pipe is full.
        with output:
            for line in output:
                line = line.removesuffix("\n")
                self._last_lines[worker].append(line)
                with self._on_line_lock:
                    if self._on_line and not self._on_line_error:
                        try:
                            self._on_line(worker, line)
                        except Exception as error:
                            self._on_line_error = error

    def _failure(self, worker: int, code: int) -> WorkerFailure:
        last_lines = tuple(self._last_lines[worker])
        if code > 0:
            return WorkerFailure(worker, code, None, last_lines)
        names = {s.value: s.name for s in signal.Signals}
        name = names.get(-code, f"signal {-code}")
        return WorkerFailure(worker, 128 - code, name, last_lines)


def _tf_configs(num_workers: int) -> list[str]:
    # Held all at once, so that no port is handed out twice.
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(num_workers):
            holder = stack.enter_context(socket.socket())
            holder.bind(("", 0))
            ports.append(holder.getsockname()[1])
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    return [
        json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}})
        for i in range(num_workers)
    ]


def _quoted(worker: int, lines: Collection[str]) -> str:
    if not lines:
        return f"Worker {worker} printed nothing."
    return "\n  ".join([f"Last lines of worker {worker}:", *lines])


def _start_guardian(mark: str) -> "subprocess.Popen[str]":
    # Its input ends when this process does, also by SIGKILL; a death signal
    # of the kernel's would spare the workers' children, and needs a
    # `preexec_fn`, which may deadlock in a process with threads.
    return subprocess.Popen(
        [sys.executable, "-P", __file__, mark],
        env={k: v for k, v in os.environ.items() if k != _MARK},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def _members(mark: str, sessions: Collection[int]) -> list[psutil.Process]:
    # A descendant may have left the session, or cleared its environment.
    members = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if (
                os.getsid(process.pid) in sessions
                or process.environ().get(_MARK) == mark
            ) and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process)
    return members


def _signal_all(
    processes: Collection[psutil.Process], number: signal.Signals
) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)


def _kill(mark: str, sessions: Collection[int]) -> None:
    # Repeated, as a process may fork while it is looked for; bounded, as one
    # that hangs in the kernel cannot be killed.
    for _ in range(100):
        members = _members(mark, sessions)
        if not members:
            return
        _signal_all(members, signal.SIGKILL)
        time.sleep(_POLL_SECONDS)


if __name__ == "__main__":
    _kill(sys.argv[1], {int(line) for line in sys.stdin})
