"""Ends every process of a group of workers, also when its owner is killed.

Run as a program, beside the group: it needs neither tfdp nor TensorFlow.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping

import psutil

MARK = "TFDP_WORKER_GROUP"
_POLL_SECONDS = 0.02


class Guardian:
    """Knows the processes of a group, and kills them once this process is gone.

    They are those that carry its mark in the variable `TFDP_WORKER_GROUP`,
    those in the session of a worker, and those that the keeper of a forked one
    is an ancestor of: a descendant may have cleared the mark, or left the
    session, and one that was forked does not show its variables.

    Args:
        mark: Value of the variable, of this group only.
        env: Variables for the guardian's own process, without a mark: it must
            outlive a group that this process is part of.
        folders: Folders to remove once this process is gone. Defaults to none.

    Example:

    >>> with Guardian("a mark of its own", env={}) as guardian:
    ...     guardian.members()
    []
    """

    def __init__(
        self,
        mark: str,
        *,
        env: Mapping[str, str],
        folders: Collection[str | os.PathLike[str]] = (),
    ) -> None:
        """Starts the process that waits for the death of this one."""
        self._mark = mark
        self._sessions: set[int] = set()
        self._keepers: dict[int, psutil.Process] = {}
        # Its input ends when this process does, also by SIGKILL; a death
        # signal of the kernel's would spare the workers' children, and needs
        # a `preexec_fn`, which may deadlock in a process with threads.
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, mark, *folders],
            env={k: v for k, v in env.items() if k != MARK},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> "Guardian":
        """Returns the guardian, which is already running."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Dismisses it."""
        self.close()

    def watch(self, pid: int, keeper: int | None = None) -> None:
        """Takes a worker, the leader of its session, into the group.

        Args:
            pid: Its process id.
            keeper: That of its keeper, where it was forked.
        """
        numbers = [pid] if keeper is None else [pid, keeper]
        _watch(self._sessions, self._keepers, *numbers)
        print(*numbers, file=self._process.stdin, flush=True)

    def release(self, pid: int) -> None:
        """Kills what a worker that has ended has left, and forgets it.

        What has cleared both mark and session stays until the group ends.

        Args:
            pid: Its process id, which may then be another's.
        """
        keepers = [self._keepers[pid]] if pid in self._keepers else []
        _kill((), {pid}, keepers)
        _forget(self._sessions, self._keepers, pid)
        # Who was killed reads nothing.
        with contextlib.suppress(BrokenPipeError):
            print(-pid, file=self._process.stdin, flush=True)

    def members(self) -> list[psutil.Process]:
        """Returns the processes of the group that have not ended."""
        keepers = self._keepers.values()
        return _members((self._mark,), self._sessions, keepers)

    def signal_members(self, number: signal.Signals) -> None:
        """Sends a signal to all of them; those that are stopped go on.

        Args:
            number: The signal.
        """
        for process in self.members():
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)
                if process.info["status"] == psutil.STATUS_STOPPED:
                    process.send_signal(signal.SIGCONT)

    def kill_members(self) -> None:
        """Kills all of them, and waits until they are gone."""
        _kill((self._mark,), self._sessions, self._keepers.values())

    def close(self) -> None:
        """Ends the guardian's own process. May be called twice."""
        with self._process:
            self._process.kill()


def _watch(
    sessions: set[int],
    keepers: dict[int, psutil.Process],
    pid: int,
    keeper: int | None = None,
) -> None:
    sessions.add(pid)
    if keeper is not None:
        with contextlib.suppress(psutil.Error):
            keepers[pid] = psutil.Process(keeper)


def _forget(
    sessions: set[int], keepers: dict[int, psutil.Process], pid: int
) -> None:
    sessions.discard(pid)
    keepers.pop(pid, None)


def _members(
    marks: Collection[str],
    sessions: Collection[int],
    keepers: Collection[psutil.Process],
) -> list[psutil.Process]:
    kept = set()
    for keeper in keepers:
        # It looks whether its number is another's by now.
        with contextlib.suppress(psutil.Error):
            kept |= {child.pid for child in keeper.children(recursive=True)}
    members = []
    for process in psutil.process_iter(["environ", "status"]):
        with contextlib.suppress(OSError):
            if (
                process.pid in kept
                or os.getsid(process.pid) in sessions
                or (process.info["environ"] or {}).get(MARK) in marks
            ) and process.info["status"] != psutil.STATUS_ZOMBIE:
                members.append(process)
    return members


def _kill(
    marks: Collection[str],
    sessions: Collection[int],
    keepers: Collection[psutil.Process],
) -> None:
    # Repeated, as a process may fork while it is looked for; bounded, as one
    # that hangs in the kernel cannot be killed.
    for _ in range(100):
        members = _members(marks, sessions, keepers)
        if not members:
            return
        for process in members:
            with contextlib.suppress(psutil.Error):
                process.kill()
        time.sleep(_POLL_SECONDS)


def _main(mark: str, *folders: str) -> None:
    sessions: set[int] = set()
    keepers: dict[int, psutil.Process] = {}
    for line in sys.stdin:
        pid, *keeper = map(int, line.split())
        if pid < 0:
            _forget(sessions, keepers, -pid)
        else:
            _watch(sessions, keepers, pid, *keeper)
    _kill((mark,), sessions, keepers.values())
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
