"""Several workers out of one machine, inside of a test."""

import functools
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from tfdp.calls import server_for
from tfdp.checks import checked_number
from tfdp.launching import (
    AsynchronousGroup,
    Restarts,
    WorkerFailure,
    WorkerGroup,
    checked_variables,
    checked_workers,
    command_of,
    worker_variables,
)

_REPORT = "[tfdp report] "


def run_workers(
    script: str | os.PathLike[str] | Callable[..., Any],
    num_workers: int,
    args: Sequence[Any] = (),
    *,
    timeout: float = 120.0,
    env: Mapping[str, str] | None = None,
    log_dir: str | os.PathLike[str] | None = None,
    start_method: Literal["forkserver", "spawn"] | None = None,
    asynchronous: bool = False,
    max_restarts: int = 0,
) -> list[Any]:
    """Runs a script or a function as several workers; returns their findings.

    The workers run on this machine and find each other by `TF_CONFIG`. A
    script must call `report` once; of a function counts what it returns.
    Nothing of the workers is left running afterwards.

    Args:
        script: Path of a Python script; or a function that is defined at the
            top of a file, such as the test's own. The worker loads the file
            of the function, and calls nothing else of it.
        num_workers: Number of processes; at least 1.
        args: Arguments, the same for every worker: strings for a script, what
            JSON can hold for a function.
        timeout: Seconds after which the workers are ended. Defaults to 120.
        env: Variables to set for the workers, besides those of this process.
        log_dir: Folder for all that the workers print, in files
            `worker-0.log` and so on. Defaults to `None`, no files.
        start_method: `"spawn"` starts each worker anew. `"forkserver"` forks
            them from a process that has imported TensorFlow, Keras and tfdp,
            once for all calls, which saves seconds per worker; what an import
            reads of `env` it cannot change, so that workers with such
            variables are started anew all the same. Defaults to `None`:
            `"forkserver"` on Linux, else `"spawn"`.
        asynchronous: Whether workers go on without those that fall, as with
            `tfdp launch --asynchronous`; all but the first, the chief, may.
            Defaults to `False`: they end together.
        max_restarts: How often each of those is started again by itself.
            Defaults to 0.

    Returns:
        The reported or returned values, by index of the worker. Of an
        asynchronous one that has fallen for good its
        `tfdp.launching.WorkerFailure`, with `exit_code`, `signal_name` and
        `last_lines`.

    Raises:
        TypeError: If `script` is neither a path nor a function, a number is
            none, or a variable not a text.
        ValueError: If `num_workers` is below 1 or above 1024, `timeout` not
            positive, a variable one that is set for each worker anyhow,
            `start_method` neither, the function cannot be found by its name
            in another process, or `max_restarts` is negative, or is there for
            workers that end together.
        RuntimeError: If a worker fails, with its exit code and output, or
            does not report exactly once; of asynchronous workers the chief, or
            one that ends with 0.
        TimeoutError: If a worker still runs after `timeout`, with the last
            lines of each.

    Example:

    ```python
    # tests/test_sum.py
    def add_up(summand):
        strategy = tfdp.MultiWorkerMirroredStrategy()
        one_each = strategy.run(lambda: tf.constant(summand))
        return float(strategy.reduce("SUM", one_each, axis=None))

    def test_workers_add_up():
        assert tfdp.testing.run_workers(add_up, 2, [1.5]) == [3.0, 3.0]
    ```
    """
    if start_method not in (None, "forkserver", "spawn"):
        raise ValueError(
            "`start_method` must be 'forkserver', 'spawn' or None. Received: "
            f"start_method={start_method!r}."
        )
    restarts = Restarts(max_restarts)
    if restarts.most and not asynchronous:
        raise ValueError(
            "`max_restarts` is for workers that are started again by "
            f"themselves. Received: max_restarts={max_restarts}, "
            "asynchronous=False. Add asynchronous=True, or leave it out."
        )
    if start_method is None:
        is_linux = sys.platform == "linux"
        start_method = "forkserver" if is_linux else "spawn"
    num_workers = checked_workers(num_workers)
    timeout = checked_number("timeout", timeout)
    env = checked_variables(env, worker_variables())
    documents: list[list[str]] = [[] for _ in range(num_workers)]

    def collect(worker: int, line: str) -> None:
        _, found, document = line.partition(_REPORT)
        if found:
            documents[worker].append(document)

    def forget(failure: WorkerFailure) -> None:
        documents[failure.worker].clear()

    if callable(script):
        name = getattr(script, "__qualname__", repr(script))
        command = command_of(script, args, report=_REPORT)
    else:
        name = os.fspath(script)
        command = [sys.executable, "-u", name, *args]
    server = None
    if start_method == "forkserver":
        server = server_for({**worker_variables(), **env})
    group_of: Callable[..., WorkerGroup] = WorkerGroup
    if asynchronous:
        group_of = functools.partial(
            AsynchronousGroup, restarts=restarts, on_fall=forget
        )
    with group_of(
        command,
        num_workers,
        env=env,
        log_dir=log_dir,
        on_line=collect,
        keep_lines=200,
        # A report is one, however long.
        longest_line=sys.maxsize,
        server=server,
    ) as group:
        failure = group.wait(timeout)
    if failure:
        raise RuntimeError(
            f"Every worker of {name} must end with exit code 0. "
            f"Received: {failure}"
        )
    counts = [len(reported) for reported in documents]
    lost = group.lost
    if any(n != 1 for w, n in enumerate(counts) if w not in lost):
        raise RuntimeError(
            f"Every worker of {name} must report once. Received: {counts} "
            "reports, by worker. Call `tfdp.testing.report(value)` once in a "
            "script, on every worker; a function reports what it returns."
        )
    return [
        lost[worker] if worker in lost else json.loads(reported[0])
        for worker, reported in enumerate(documents)
    ]


def report(value: Any) -> None:
    """Hands a value from a worker to the `run_workers` that runs it.

    It travels as one line of the worker's output; call it once per worker.

    Args:
        value: Anything JSON can hold: numbers, strings, `None`, lists, and
            dicts with string keys. Convert arrays with `tolist()`.

    Raises:
        TypeError: If JSON cannot hold `value`.

    Example:

    >>> report({"worker": 0, "loss": 0.25})
    [tfdp report] {"worker": 0, "loss": 0.25}
    """
    # One write, so that no other output comes between value and line end.
    sys.stdout.write(f"{_REPORT}{json.dumps(value)}\n")
    sys.stdout.flush()
