"""How a worker has ended, in words and as an exit code."""

import dataclasses
import signal
from collections.abc import Collection, Mapping

_OUT_OF_MEMORY = (
    "The kernel's out-of-memory killer has ended a process meanwhile, most "
    "likely this one: memory has run out."
)
_ENDED_TOGETHER = "All other workers were ended."
_HINT_AT_MEMORY = (
    "Out of memory is the usual cause of a SIGKILL that nobody sent."
)


@dataclasses.dataclass(frozen=True)
class WorkerFailure:
    """The failure of a worker; `str()` tells it to a user.

    Attributes:
        worker: Index of the worker: of those that end together, the one that
            is to blame.
        exit_code: Its exit code; 128 plus the signal where one killed or
            stopped it.
        signal_name: Name of that signal (`"SIGSEGV"`), or `None`.
        last_lines: The end of its output.
        stopped_seconds: How long it had been stopped; `None` where it has
            ended.
        stalled_seconds: How long it had made no progress; `None` where that
            is not why it was ended.
        remark: A sentence about the cause; empty where nothing is known.
        fate: What has become of it, or of the others, then.
        lost_at: When it was lost, by `time.monotonic`, as far as that is known.

    Example:

    >>> print(WorkerFailure(1, 3, None, ("out of data",)))
    Worker 1 failed with exit code 3. All other workers were ended.
    Last lines of worker 1:
      out of data
    """

    worker: int
    exit_code: int
    signal_name: str | None
    last_lines: tuple[str, ...]
    stopped_seconds: float | None = None
    remark: str = ""
    fate: str = _ENDED_TOGETHER
    stalled_seconds: float | None = None
    lost_at: float | None = dataclasses.field(
        default=None, compare=False, repr=False
    )

    @classmethod
    def of(
        cls,
        worker: int,
        returncode: int,
        stopped_seconds: float | None = None,
        *,
        last_lines: Collection[str],
        stalled_seconds: float | None = None,
        is_out_of_memory: bool = False,
        remark: str = "",
        fate: str = _ENDED_TOGETHER,
        lost_at: float | None = None,
    ) -> "WorkerFailure":
        """Returns the failure that a return code means.

        Args:
            worker: Index of the worker.
            returncode: Its exit code, or minus the signal.
            stopped_seconds: How long it had been stopped. Defaults to `None`:
                it has ended.
            last_lines: The end of its output.
            stalled_seconds: How long it had made no progress. Defaults to
                `None`: that is not why it was ended.
            is_out_of_memory: Whether the kernel's out-of-memory killer has
                acted meanwhile.
            remark: A sentence about where it was. Defaults to nothing.
            fate: What has become of it, or of the others, then. Defaults to
                the end of all.
            lost_at: When it was lost, by `time.monotonic`. Defaults to `None`:
                that is not known.

        Returns:
            The failure.

        Example:

        >>> WorkerFailure.of(0, -11, last_lines=[]).exit_code
        139
        """
        lines = tuple(last_lines)
        if returncode > 0:
            return cls(
                worker,
                returncode,
                None,
                lines,
                remark=remark,
                fate=fate,
                stalled_seconds=stalled_seconds,
                lost_at=lost_at,
            )
        if returncode == -signal.SIGKILL:
            memory = _OUT_OF_MEMORY if is_out_of_memory else _HINT_AT_MEMORY
            remark = f"{remark} {memory}".strip()
        name = signal_name(-returncode)
        return cls(
            worker,
            128 - returncode,
            name,
            lines,
            stopped_seconds,
            remark,
            fate,
            lost_at=lost_at,
        )

    def __str__(self) -> str:
        """Says which worker failed, how, and what it printed last."""
        if self.stalled_seconds is not None:
            how = f"has made no progress for {self.stalled_seconds:.3g} s"
        elif self.stopped_seconds is not None:
            how = (
                f"has been stopped ({self.signal_name}) for "
                f"{self.stopped_seconds:.2g} s"
            )
        elif self.signal_name:
            how = f"was killed by {self.signal_name} "
            how += f"(exit code {self.exit_code})"
        else:
            how = f"failed with exit code {self.exit_code}"
        remark = self.remark and f"{self.remark} "
        return (
            f"Worker {self.worker} {how}. {remark}{self.fate}\n"
            f"{_quoted(self.worker, self.last_lines)}"
        )


@dataclasses.dataclass(frozen=True)
class WorkerOutcome:
    """What became of one worker; `str()` is its line in a summary.

    Attributes:
        worker: Index of the worker.
        pid: Its process id.
        returncode: Its exit code, or minus the signal that killed it; `None`
            while it runs.
        seconds: How long it ran.
        was_ended: Whether the group ended it, while it still ran.

    Example:

    >>> print(WorkerOutcome(0, 321, -15, 12.34, was_ended=True))
    worker 0 (process 321): SIGTERM after 12.3 s, ended with the group
    """

    worker: int
    pid: int
    returncode: int | None
    seconds: float
    was_ended: bool = False

    def __str__(self) -> str:
        """Says who it was, how it ended, and when."""
        if self.returncode is None:
            how = "still running"
        elif self.returncode < 0:
            how = signal_name(-self.returncode)
        else:
            how = f"exit code {self.returncode}"
        return (
            f"worker {self.worker} (process {self.pid}): {how} after "
            f"{self.seconds:.1f} s"
            f"{', ended with the group' if self.was_ended else ''}"
        )


def signal_name(number: int) -> str:
    """Returns the name of a signal, also of one without.

    Args:
        number: The signal.

    Returns:
        Such as `"SIGKILL"`, or `"signal 40"`.

    Example:

    >>> signal_name(9), signal_name(40)
    ('SIGKILL', 'signal 40')
    """
    names = {s.value: s.name for s in signal.Signals}
    return names.get(number, f"signal {number}")


def lateness(
    timeout: float, late: Collection[int], last_lines: Mapping[int, Collection]
) -> TimeoutError:
    """Returns the error that names the workers which did not end in time.

    Args:
        timeout: Seconds they had.
        late: Indices of those still running.
        last_lines: The end of the output of all workers, by index.

    Returns:
        The error, to raise.

    Example:

    >>> print(str(lateness(3.0, [1], {1: []})).partition(".")[0])
    Workers must end within timeout=3 seconds
    """
    logs = "\n".join(_quoted(w, lines) for w, lines in last_lines.items())
    return TimeoutError(
        f"Workers must end within timeout={round(timeout, 2):g} seconds. "
        f"Received: workers {sorted(late)} still running; they were ended. "
        "Pass a larger `timeout`, or find out what they waited for.\n"
        f"{logs}"
    )


def _quoted(worker: int, lines: Collection[str]) -> str:
    if not lines:
        return f"Worker {worker} printed nothing."
    return "\n  ".join([f"Last lines of worker {worker}:", *lines])
