"""Local worker processes, started, watched and ended together.

Environment variables set for a worker: `TF_CONFIG`, `PYTHONUNBUFFERED`,
`TFDP_RESTART_COUNT`, `TFDP_WORKER_GROUP`, by which every process of the group
can be found; `TFDP_JOB_SECRET`, by which they know each other, where all of
them are started here; `TFDP_ASYNCHRONOUS`, where they go on without each other;
`TFDP_BOARD`, a file in which a worker says where it stands (`tfdp.board`); and
where they are unset `TF_CPP_MIN_LOG_LEVEL`, to 2 (errors only),
`GLIBC_TUNABLES` and `TF_ENABLE_ONEDNN_OPTS`, as in `tfdp.machine`.
"""

import contextlib
import functools
import math
import os
import signal
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Self

from tfdp.board import BoardFolder
from tfdp.checks import checked_count, checked_number
from tfdp.cluster import Cluster, free_addresses
from tfdp.launching.blame import Blame, Culprit
from tfdp.launching.fork_server import ForkServer
from tfdp.launching.guardian import MARK, Guardian
from tfdp.launching.stalls import StallWatch, last_words
from tfdp.launching.worker_failure import WorkerFailure, WorkerOutcome, lateness
from tfdp.launching.worker_output import WorkerOutput
from tfdp.launching.worker_pipe import LONGEST_LINE
from tfdp.launching.worker_process import WorkerProcess
from tfdp.launching.worker_settings import (
    checked_variables,
    checked_workers,
    group_variables,
    worker_variables,
)
from tfdp.machine import core_shares, oom_kills

_POLL_SECONDS = 0.02


class WorkerGroup(contextlib.AbstractContextManager):
    """Runs a command as several processes that find each other by `TF_CONFIG`.

    Making the object starts the processes. They read no input, and end
    together: after `wait` or `stop`, or at the end of a `with` block, none is
    left, nor any process they started. So it is when this process dies,
    however it dies. POSIX systems only.

    Args:
        command: Program and arguments, the same for every worker.
        num_workers: Number of processes here; at least 1.
        addresses: Address (`"host:port"`) of every worker of the job, those
            elsewhere included. Defaults to free ports of 127.0.0.1.
        first_index: Place among `addresses` of the first of these processes;
            each is known by its place there. Defaults to 0.
        cpus_per_worker: Cores that each worker is kept on, none shared, with
            as many threads for TensorFlow. Defaults to `None`, no limit.
        env: Variables to set for the workers, besides those of this process.
            Defaults to none.
        restart_count: How often the job was started again. Defaults to 0.
        log_dir: Folder for `worker-0.log` and so on, which output is added to.
            Defaults to `None`, no files.
        on_line: Called as `on_line(worker, line)` with each line of output
            (stdout and stderr, without the line end), from a thread, one call
            at a time. What it raises, `wait` raises. Defaults to nothing.
        keep_lines: Number of last lines per worker to show when something
            fails. Defaults to 20.
        server: Forks the workers, where they are Python scripts and it can
            (see `ForkServer.takes`). Defaults to `None`: all are started anew.
        grace_seconds: Time between the signal and SIGKILL for a worker that is
            to end; at most 3 after a failure, and in `stop`. Defaults to 5.
        longest_line: Characters of a line, or part of one. Defaults to 65,536.
        stalls: Looks whether there is progress. Defaults to `None`: nobody.

    Attributes:
        processes: The newest process of each worker, by its index.
        blame: Who has failed first.
        boards: Where the workers stand, or stood at their end.
        fate: What is told of the others, once one is to blame.
        is_asynchronous: Whether workers go on without each other.

    Raises:
        TypeError: If a number is none, or a variable not a text.
        ValueError: If `num_workers` is below 1 or above 1024, another number
            out of range, a variable one that is set here, `addresses` are
            malformed, or there are too few of them or of the cores.
        RuntimeError: If this system cannot keep a process on chosen cores.
        OSError: If the command cannot be started, or a log not be written.

    Example:

    >>> with WorkerGroup(["true"], num_workers=2) as group:
    ...     failure = group.wait(timeout=60)
    >>> print(failure)
    None
    """

    fate = "All other workers were ended."
    is_asynchronous = False
    failure_grace_seconds = 3.0
    least_workers = 1

    def __init__(
        self,
        command: Sequence[str],
        num_workers: int,
        *,
        addresses: Sequence[str] | None = None,
        first_index: int = 0,
        cpus_per_worker: int | None = None,
        env: Mapping[str, str] | None = None,
        restart_count: int = 0,
        log_dir: str | os.PathLike[str] | None = None,
        on_line: Callable[[int, str], object] | None = None,
        keep_lines: int = 20,
        server: ForkServer | None = None,
        grace_seconds: float = 5.0,
        longest_line: int = LONGEST_LINE,
        stalls: StallWatch | None = None,
    ) -> None:
        """Starts the workers."""
        num_workers = checked_workers(num_workers, least=self.least_workers)
        env = checked_variables(env, worker_variables())
        first_index = checked_count("first_index", first_index, minimum=0)
        restart_count = checked_count("restart_count", restart_count, minimum=0)
        most = {"minimum": 0, "maximum": 10**6}
        keep_lines = checked_count("keep_lines", keep_lines, **most)
        self._grace_seconds = checked_number(
            "grace_seconds", grace_seconds, zero_allowed=True
        )
        indices = range(first_index, first_index + num_workers)
        if addresses is None:
            addresses = free_addresses(checked_workers(indices.stop))
        clusters = [Cluster.of(addresses, index) for index in indices]
        shares: Sequence[set[int] | None] = [None] * num_workers
        if cpus_per_worker is not None:
            shares = core_shares(num_workers, cpus_per_worker)
        variables = group_variables(
            env,
            cpus_per_worker=cpus_per_worker,
            are_all_here=len(addresses) == num_workers,
            is_asynchronous=self.is_asynchronous,
        )
        self._kill_at = math.inf
        self._oom_kills = oom_kills()
        self._stalls = stalls
        self.blame = Blame()
        self._restart_count = restart_count
        self.processes: dict[int, WorkerProcess] = {}
        self._output = WorkerOutput(
            indices,
            on_line=on_line,
            log_dir=log_dir,
            keep_lines=keep_lines,
            restart_count=restart_count,
        )
        mark = uuid.uuid4().hex
        self.boards = BoardFolder(indices)
        folders = self.boards.folders
        self._guardian = Guardian(mark, env=variables, folders=folders)
        variables[MARK] = mark
        self._makers = {
            index: functools.partial(
                WorkerProcess,
                command,
                index=index,
                cores=cores,
                on_line=self._output.hear,
                server=server,
                longest_line=longest_line,
            )
            for index, cores in zip(indices, shares, strict=True)
        }
        self._environments = {
            index: {**variables, "TF_CONFIG": cluster.to_tf_config()}
            for index, cluster in zip(indices, clusters, strict=True)
        }
        try:
            for index in indices:
                self._start(index)
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        """Returns the group, whose workers run."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Ends what still runs."""
        self.stop()

    @property
    def pids(self) -> dict[int, int]:
        """Process id of each worker, by its index."""
        return {index: p.pid for index, p in self.processes.items()}

    @property
    def outcomes(self) -> list[WorkerOutcome]:
        """What has become of each worker so far."""
        return [p.outcome for p in self.processes.values()]

    @property
    def exit_code(self) -> int:
        """Exit code of the job, where `wait` has found no failure."""
        return 0

    @property
    def begins_anew(self) -> bool:
        """Whether it was ended so that another one begins."""
        return False

    @property
    def lost(self) -> Mapping[int, WorkerFailure]:
        """Failures of the workers without which the others went on."""
        return {}

    @property
    def remark(self) -> str:
        """What else there is to say of a job that has succeeded."""
        return ""

    def signal(self, worker: int, number: int) -> None:
        """Sends a signal to one worker, if it runs, not to its children.

        Args:
            worker: Index of the worker.
            number: The signal.

        Raises:
            ValueError: If there is no such worker here.
        """
        if worker not in self.processes:
            raise ValueError(
                "The worker must be one of this group. Received: "
                f"worker={worker}. Use one of {list(self.processes)}."
            )
        self.processes[worker].send(number)

    def end(self, number: int) -> None:
        """Asks all workers to end; may be called from a signal handler.

        They have `grace_seconds`, then `wait` kills them; it does at once
        where this is called again, or while they are being ended anyhow.

        Args:
            number: The signal to send.
        """
        if self.is_ending:
            self._kill_at = -math.inf
            return
        self._kill_at = time.monotonic() + self._grace_seconds
        for process in list(self.processes.values()):
            process.send(number)
            if process.is_stopped:
                process.send(signal.SIGCONT)

    def wait(self, timeout: float | None = None) -> WorkerFailure | None:
        """Waits until every worker has ended with 0, or one has failed.

        Nothing of the group is left running. A worker that has been stopped
        (SIGSTOP) for 3 seconds has failed.

        Args:
            timeout: Seconds after which to end the workers, with SIGTERM and
                `grace_seconds`. Defaults to `None`, no limit.

        Returns:
            The failure of the worker to blame (see
            `tfdp.launching.blame.Blame`), or `None` on success and after `end`.

        Raises:
            TypeError: If `timeout` is not a number.
            ValueError: If it is negative or not finite.
            TimeoutError: If a worker still ran after `timeout`.
            Exception: What `on_line` raised.
        """
        seconds = math.inf
        if timeout is not None:
            seconds = checked_number("timeout", timeout, zero_allowed=True)
        deadline = time.monotonic() + seconds
        culprit: Culprit | None = None
        late: list[int] = []
        while culprit is None and not self._output.error:
            now = time.monotonic()
            codes = self.poll()
            self.boards.look(now)
            if not self.is_ending:
                culprit = self.judge(now, codes)
                if now >= deadline and not self.blame.has_seen_failure:
                    late = self.unfinished(codes)
                    self.end(signal.SIGTERM)
            is_over = not self.unfinished(codes)
            if culprit is None and (is_over or now >= self._kill_at):
                break
            time.sleep(_POLL_SECONDS)
        remark = last_words(self.boards, culprit) if culprit else ""
        self.stop()
        if self._output.error:
            raise self._output.error
        if late and timeout is not None:
            raise lateness(timeout, late, self._output.last_lines)
        return self.failure(culprit, self.fate, remark) if culprit else None

    def poll(self) -> dict[int, int | None]:
        """Returns the exit code of each worker here; `None` while it runs."""
        return {i: p.poll() for i, p in self.processes.items()}

    def stop(self) -> None:
        """Ends what is left of the group: SIGTERM, then SIGKILL."""
        for process in self.processes.values():
            process.was_ended |= process.poll() is None
        now = time.monotonic()
        if now < self._kill_at:
            grace = min(self._grace_seconds, self.failure_grace_seconds)
            self._kill_at = min(self._kill_at, now + grace)
            self._guardian.signal_members(signal.SIGTERM)
            while time.monotonic() < self._kill_at and self._guardian.members():
                time.sleep(_POLL_SECONDS)
        self._guardian.kill_members()
        self._guardian.close()
        self.boards.close()
        for index, process in self.processes.items():
            self._output.leave(index, process.close())
        self._output.close()

    @property
    def is_ending(self) -> bool:
        """Whether the workers have been asked to end."""
        return self._kill_at < math.inf

    def restart(self, worker: int, count: int) -> None:
        """Starts a worker again; for a group that goes on without it.

        Args:
            worker: Its index.
            count: How often it was started again in this group, this time
                included.

        Raises:
            OSError: If it cannot be started.
        """
        self._output.begin(worker, self._restart_count + count)
        self._start(worker, count)

    def release(self, worker: int) -> None:
        """Lets a worker that has ended go, while the others run.

        Args:
            worker: Its index.
        """
        process = self.processes[worker]
        self._guardian.release(process.pid)
        self._output.leave(worker, process.close())

    def judge(
        self, now: float, codes: Mapping[int, int | None]
    ) -> Culprit | None:
        """Returns whose failure has ended the job, if it has."""
        stopped = [
            index
            for index, code in codes.items()
            if code is None and self.processes[index].is_stopped
        ]
        culprit = self.blame.look(now, codes, stopped)
        if self._stalls and not culprit and not self.blame.has_seen_failure:
            return self._stalls.look(now, self.boards)
        return culprit

    def unfinished(self, codes: Mapping[int, int | None]) -> list[int]:
        """Returns the workers to wait for."""
        return [index for index, code in codes.items() if code is None]

    def failure(
        self, culprit: Culprit, fate: str, remark: str = ""
    ) -> WorkerFailure:
        """Returns what has become of a worker, and what becomes of others."""
        kills_before, self._oom_kills = self._oom_kills, oom_kills()
        return WorkerFailure.of(
            culprit.worker,
            culprit.returncode,
            culprit.stopped_seconds,
            last_lines=self._output.last_lines[culprit.worker],
            stalled_seconds=culprit.stalled_seconds,
            lost_at=culprit.lost_at,
            is_out_of_memory=self._oom_kills > kills_before,
            remark=remark,
            fate=fate,
        )

    def _start(self, index: int, restarts: int = 0) -> None:
        count = self._restart_count + restarts
        own = {"TFDP_RESTART_COUNT": str(count), **self.boards.begin(index)}
        process = self._makers[index](env={**self._environments[index], **own})
        self.processes[index] = process
        self._guardian.watch(process.pid, process.keeper)
        process.begin()
