"""A process that has imported TensorFlow, and forks workers which need not.

`multiprocessing` has one too, but its processes are no leaders of a session,
print where the server does, and run a function of a module that they must all
be able to import.
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence

from tfdp.launching import forking

_START_SECONDS = 120.0
# What may differ between the server and a worker: nothing that an import reads.
_FREE = ("TF_CONFIG", "TFDP_", "PYTEST_")


class ForkedProcess:
    """A worker that a server has forked; has what is used of a `Popen`.

    It does nothing before `begin`, and ends if nobody is left to call it.

    Args:
        status: File descriptor from which its process id and that of its
            keeper, and then its exit code can be read, a line each.
        output: File descriptor that it prints to.
        permission: File descriptor that it waits for a byte from.
        timeout: Seconds to wait for the server. Defaults to 120.

    Attributes:
        pid: Process id.
        keeper: Id of a process that is an ancestor of all that it starts,
            even of those whose parents have ended.
        stdout: What it prints, as text.

    Raises:
        RuntimeError: If the server has not started it.
    """

    def __init__(
        self,
        status: int,
        output: int,
        permission: int,
        *,
        timeout: float = _START_SECONDS,
    ) -> None:
        self._code: int | None = None
        self._status = os.fdopen(status)
        self._permission = os.fdopen(permission, "wb", buffering=0)
        self.stdout = os.fdopen(output, encoding="utf-8", errors="replace")
        line = ""
        try:
            if select.select([self._status], [], [], timeout)[0]:
                line = self._status.readline()
        finally:
            if not line:
                for file in (self.stdout, self._status, self._permission):
                    file.close()
        if not line:
            raise RuntimeError(
                "A fork server must live as long as its workers are started. "
                f"Received: no answer in {timeout:g} s. Something has ended or "
                'stopped it; start workers by start_method="spawn".'
            )
        self.pid, self.keeper = map(int, line.split())

    def begin(self) -> None:
        """Has it run the script."""
        with contextlib.suppress(BrokenPipeError):
            self._permission.write(b"\n")
        self._permission.close()

    def poll(self) -> int | None:
        """Returns its exit code, minus the signal that killed it, or `None`."""
        return self._wait(0)

    def wait(self, timeout: float) -> int:
        """Waits for its end.

        Args:
            timeout: Seconds.

        Returns:
            The exit code.

        Raises:
            subprocess.TimeoutExpired: If it still runs after that.
        """
        code = self._wait(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
        return code

    def send_signal(self, number: int) -> None:
        """Sends a signal, if it still runs."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _wait(self, seconds: float) -> int | None:
        if self._code is None and select.select(
            [self._status], [], [], seconds
        ) != ([], [], []):
            line = self._status.readline()
            # Nobody is left to say, if not even the one who waits for it.
            self._code = int(line) if line else -signal.SIGKILL
            self._status.close()
            self._permission.close()
        return self._code


class ForkServer:
    """Starts Python scripts as `subprocess.Popen` would, but at once.

    Modules that were imported by the server are there in its workers. So are
    its seeds for hashes of strings, which other processes draw for themselves.
    Linux only, where TensorFlow may be forked once it is imported, as long as
    nothing was computed.

    Args:
        preload: Names of modules; those that cannot be imported are left to
            the scripts.
        env: Variables of the server. A worker may have others of the names
            `TF_CONFIG`, `TFDP_…` and `PYTEST_…`.

    Example:

    >>> server = ForkServer([], env=dict(os.environ))
    >>> server.takes([sys.executable, os.__file__], dict(os.environ))
    True
    >>> server.close()
    """

    def __init__(self, preload: Sequence[str], env: Mapping[str, str]) -> None:
        self._env = fixed(env)
        self._socket, theirs = socket.socketpair(
            socket.AF_UNIX, socket.SOCK_SEQPACKET
        )
        with theirs:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-u", "-P", forking.__file__),
                    *(str(theirs.fileno()), *preload),
                ],
                env=env,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    @property
    def is_alive(self) -> bool:
        """Whether nothing has ended it."""
        return self._process.poll() is None

    def suits(self, env: Mapping[str, str]) -> bool:
        """Whether it lives, and what it has imported read these variables.

        Args:
            env: All variables of a worker.
        """
        return self.is_alive and fixed(env) == self._env

    def takes(self, command: Sequence[str], env: Mapping[str, str]) -> bool:
        """Whether a worker would be the same as one that is started anew.

        Args:
            command: Python, its options `-u` and `-P` or none, a script, and
                its arguments.
            env: All variables of the worker.
        """
        if not all(isinstance(x, str) and "\0" not in x for x in command):
            return False
        program, _, script, _ = _parts(command)
        if program != sys.executable or not os.path.isfile(script):
            return False
        try:
            size = len(_request(command, env))
        except FileNotFoundError:
            # The folder it would run in is gone.
            return False
        return self.suits(env) and size <= forking.LARGEST_REQUEST

    def start(
        self, command: Sequence[str], env: Mapping[str, str]
    ) -> ForkedProcess:
        """Starts a script as the leader of a session, without input.

        Args:
            command: As in `takes`.
            env: All variables of the process.

        Returns:
            The process, which waits for its `begin`.

        Raises:
            RuntimeError: If the server is gone, or stopped.
        """
        (status, its_status), (output, its_output) = os.pipe(), os.pipe()
        its_permission, permission = os.pipe()
        theirs = [its_status, its_output, its_permission]
        with contextlib.suppress(OSError):
            request = [_request(command, env)]
            socket.send_fds(self._socket, request, theirs)
        for descriptor in theirs:
            os.close(descriptor)
        return ForkedProcess(status, output, permission)

    def close(self) -> None:
        """Ends the server, not its workers. May be called twice."""
        self._socket.close()
        with self._process:
            self._process.kill()


def _request(command: Sequence[str], env: Mapping[str, str]) -> bytes:
    _, is_safe_path, script, args = _parts(command)
    request = {
        "script": script,
        "args": args,
        "is_safe_path": is_safe_path,
        "env": dict(env),
        "folder": os.getcwd(),
        "cores": sorted(os.sched_getaffinity(0)),
        "umask": _umask(),
    }
    return json.dumps(request).encode()


def _umask() -> int:
    # `os.umask` tells it only by setting another.
    with open("/proc/self/status") as file:
        lines = dict(line.split(":", 1) for line in file)
    return int(lines["Umask"], 8)


def fixed(env: Mapping[str, str]) -> dict[str, str]:
    """Returns the variables that a server and its workers must share.

    Args:
        env: All variables of a worker.

    Example:

    >>> fixed({"PATH": "/bin", "TF_CONFIG": "{}"})
    {'PATH': '/bin'}
    """
    return {k: v for k, v in env.items() if not k.startswith(_FREE)}


def _parts(command: Sequence[str]) -> tuple[str, bool, str, list[str]]:
    program, *rest = command
    options = set()
    while rest and rest[0] in ("-u", "-P"):
        options.add(rest.pop(0))
    script, *args = rest or ["-"]
    return program, "-P" in options, script, args
