"""A function, run as several workers of this machine."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from tfdp.calls.call_folder import CallFolder
from tfdp.calls.kept_server import server_for
from tfdp.checks import checked_count, checked_number
from tfdp.launching import (
    MOST_WORKERS,
    ForkServer,
    WorkerFailure,
    WorkerGroup,
    checked_variables,
    is_start_up_line,
    worker_variables,
)
from tfdp.machine import ending_signals


def launch(
    function: Callable[..., Any],
    args: Sequence[Any] = (),
    *,
    workers: int,
    cpus_per_worker: int | None = None,
    env: Mapping[str, str] | None = None,
    log_dir: str | os.PathLike[str] | None = None,
    timeout: float | None = None,
) -> list[Any]:
    """Runs a function as several workers, from a script or a notebook.

    The workers are new processes, as those of `tfdp launch --workers`:
    `tfdp.auto_strategy()` inside of the function trains on all of them. A
    TensorFlow that this process has started stays out of it; where it is
    imported here, on Linux a process that has done so too is kept, to fork
    workers from at once. What the workers
    print is shown as it comes, but for what TensorFlow says of itself at its
    start. They end together: when one fails, when this process is interrupted
    (Ctrl-C, or the stop button of a notebook), and when it dies.

    The function may be of a cell, a lambda, or one inside of another; it is
    sent to the workers with what it names, by a file that only this user can
    read. Make whatever belongs to a process inside of it: the strategy, the
    model, the data.

    Args:
        function: What each worker calls.
        args: What it is called with, the same for every worker. Defaults to
            nothing.
        workers: Number of workers; at least 1.
        cpus_per_worker: Cores that each worker is kept on, none shared, with
            as many threads for TensorFlow. Defaults to `None`: all use all.
        env: Variables to set for the workers, besides those of this process.
            Defaults to none.
        log_dir: Folder for all that the workers print, in files
            `worker-0.log` and so on. Defaults to `None`, no files.
        timeout: Seconds after which the workers are ended. Defaults to `None`,
            no limit.

    Returns:
        What the function has returned, by index of the worker.

    Raises:
        TypeError: If `function` cannot be called, or cannot be sent with its
            arguments, `args` is not a sequence of them, or a number is none.
        ValueError: If a number is out of range, there are too few cores, or a
            variable is one that is set for each worker anyhow.
        RuntimeError: If a worker fails, with its own traceback.
        TimeoutError: If a worker still runs after `timeout`, with the last
            lines of each.
        OSError: If a worker cannot be started, or a log not be written.

    Example:

    ```python
    def train(epochs):
        strategy = tfdp.auto_strategy()
        with strategy.scope():
            model = build_model()
        return model.fit(dataset(), epochs=epochs).history["loss"]

    losses = tfdp.launch(train, args=[3], workers=2)
    ```
    """
    if not callable(function):
        raise TypeError(
            "Workers must be given a function to call. Received: function="
            f"{function!r} ({type(function).__name__}). Pass the function, "
            "and what it is called with as `args`."
        )
    if isinstance(args, (str, bytes)) or not isinstance(args, Sequence):
        raise TypeError(
            "`args` must be a list or tuple of arguments. Received: args="
            f"{args!r} ({type(args).__name__}). Pass args=[...]."
        )
    workers = checked_count("workers", workers, maximum=MOST_WORKERS)
    if timeout is not None:
        timeout = checked_number("timeout", timeout)
    env = checked_variables(env, worker_variables())
    with (
        _Interruption() as interruption,
        CallFolder(function, args) as folder,
        WorkerGroup(
            folder.command,
            workers,
            cpus_per_worker=cpus_per_worker,
            env=env,
            log_dir=log_dir,
            on_line=_show,
            server=_server(env),
        ) as group,
    ):
        failure = interruption.wait(group, timeout)
        if failure:
            raise _error(failure, folder.traceback(failure.worker))
        values = [folder.value(worker) for worker in range(workers)]
    silent = [worker for worker, value in enumerate(values) if value is None]
    if silent:
        raise RuntimeError(
            "Every worker must return from the function. Received: nothing of "
            f"worker {', '.join(map(str, silent))}, which ended in it with "
            "exit code 0, as by `sys.exit()`. Use `return`."
        )
    return [value[0] for value in values if value is not None]


def _server(env: Mapping[str, str]) -> ForkServer | None:
    """Has workers forked where they most likely need TensorFlow, too."""
    if sys.platform != "linux" or "tensorflow" not in sys.modules:
        return None
    return server_for({**worker_variables(), **env})


class _Interruption(contextlib.AbstractContextManager):
    """Has workers end when this process is to, and then lets that happen.

    Where this is not the main thread, which Python has signals handled by,
    nobody interrupts.
    """

    def __init__(self) -> None:
        self._number: int | None = None
        self._group: WorkerGroup | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Handles signals."""
        if threading.current_thread() is threading.main_thread():
            self._stack.enter_context(ending_signals(self._end))
        return self

    def __exit__(self, *exception: object) -> None:
        """Has the first signal do what it would have done."""
        self._stack.close()
        if self._number is not None:
            signal.raise_signal(self._number)
            # Where that is ignored, there is still nothing to return.
            raise KeyboardInterrupt

    def wait(
        self, group: WorkerGroup, timeout: float | None
    ) -> WorkerFailure | None:
        """Waits for the workers; a second signal kills them."""
        self._group = group
        if self._number is not None:
            group.end(self._number)
        return group.wait(timeout)

    def _end(self, number: int, frame: Any) -> None:
        self._number = self._number or number
        if self._group:
            self._group.end(number)


def _show(worker: int, line: str) -> None:
    if not is_start_up_line(line):
        print(f"[worker {worker}] {line}", flush=True)


def _error(failure: WorkerFailure, traceback: str) -> RuntimeError:
    if not traceback:
        return RuntimeError(
            f"Every worker must return from the function. Received: {failure}"
        )
    return RuntimeError(
        "Every worker must return from the function. Received: worker "
        f"{failure.worker}, which has raised what follows.\n\n{traceback}"
    )
