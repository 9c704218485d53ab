"""What the workers of a group print, and who hears of it."""

import collections
import contextlib
import os
import pathlib
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import TextIO

import psutil

from tfdp.launching.start_up_lines import is_start_up_line


class WorkerOutput:
    """Keeps the last lines of each worker, and passes all of them on.

    In `log_dir` are files `worker-0.log`, `worker-1.log`, and so on. What they
    held stays: each start adds a line that names the attempt, then the output.
    A long line may come in parts: it is whole in its file, and elsewhere each
    part is a line.

    Args:
        workers: Indices of the workers.
        on_line: Called as `on_line(worker, line)`, one call at a time.
            Defaults to nothing.
        log_dir: Folder of the files, made where it is missing. Defaults to
            `None`, no files.
        keep_lines: Number of last lines to keep per worker.
        restart_count: How often the workers had been started again before.

    Attributes:
        last_lines: The end of each worker's output, by index, without what
            TensorFlow prints wherever it starts.
        error: What writing a file or `on_line` has raised, or `None`.

    Raises:
        OSError: If the files cannot be made.

    Example:

    >>> output = WorkerOutput([0], on_line=print)
    >>> output.hear(0, "hello")
    0 hello
    """

    def __init__(
        self,
        workers: Iterable[int],
        *,
        on_line: Callable[[int, str], object] | None = None,
        log_dir: str | os.PathLike[str] | None = None,
        keep_lines: int = 20,
        restart_count: int = 0,
    ) -> None:
        """Opens the files."""
        self.error: Exception | None = None
        self.last_lines: dict[int, collections.deque[str]] = {
            worker: collections.deque(maxlen=keep_lines) for worker in workers
        }
        self._lock = threading.Lock()
        self._listeners = [on_line] if on_line else []
        self._without_room: set[int] = set()
        self._files: dict[int, TextIO] = {}
        self._stack = contextlib.ExitStack()
        if log_dir is None:
            return
        folder = pathlib.Path(log_dir)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise NotADirectoryError(
                "`log_dir` must be a folder, or not be there yet. Received: "
                f"log_dir={os.fspath(log_dir)!r}, which is a file."
            ) from error
        for worker in self.last_lines:
            path = folder / f"worker-{worker}.log"
            # By line, so that one can watch it grow.
            file = path.open("a", encoding="utf-8", buffering=1)
            self._files[worker] = self._stack.enter_context(file)
            self.begin(worker, restart_count)

    def begin(self, worker: int, restart_count: int) -> None:
        """Takes note that a worker starts, and has printed nothing yet.

        Args:
            worker: Index of the worker.
            restart_count: How often it had been started again before.
        """
        moment = time.strftime("%Y-%m-%d %H:%M:%S")
        heading = f"worker {worker}, attempt {restart_count + 1}, {moment}"
        with self._lock:
            self.last_lines[worker].clear()
            self._write(worker, f"=== {heading} ===")

    def hear(self, worker: int, line: str, is_end: bool = True) -> None:
        """Takes a line of output; called from the threads of all workers.

        Args:
            worker: Index of the worker.
            line: The line, or a part of it, without its end.
            is_end: Whether the line ends with it. Defaults to `True`.
        """
        with self._lock:
            # The files first: they hear a line that the other one fails at.
            self._write(worker, line, end="\n" if is_end else "")
            if not is_start_up_line(line):
                self.last_lines[worker].append(line)
            for listener in list(self._listeners):
                try:
                    listener(worker, line)
                except Exception as error:
                    self._listeners.remove(listener)
                    self.error = self.error or error

    def leave(self, worker: int, processes: Iterable[psutil.Process]) -> None:
        """Tells of processes that a worker has left, which its end spares.

        Args:
            worker: Index of the worker.
            processes: Those that still hold its output.
        """
        for process in processes:
            # It may have ended meanwhile; nobody may be there to be told.
            with contextlib.suppress(psutil.Error, OSError):
                print(
                    f"Worker {worker} has left a process that runs on and is "
                    f"not heard any more: {process.name()} (process "
                    f"{process.pid}).",
                    file=sys.stderr,
                )

    def close(self) -> None:
        """Closes the files. May be called twice."""
        with self._lock:
            self._listeners.clear()
            # What no room was left for.
            with contextlib.suppress(OSError):
                self._stack.close()

    def _write(self, worker: int, line: str, *, end: str = "\n") -> None:
        file = self._files.get(worker)
        if file is None or file.closed:
            return
        try:
            print(line, end=end, file=file)
        except OSError as error:
            if worker not in self._without_room:
                self._without_room.add(worker)
                # Where nobody can be told, the training goes on all the same.
                with contextlib.suppress(OSError):
                    print(
                        f"{file.name} cannot be written ({error.strerror}); "
                        "lines are left out of it until there is room.",
                        file=sys.stderr,
                    )
        else:
            self._without_room.discard(worker)
