"""A process that has imported TensorFlow, and forks workers which need not.

Run as a program: the server. `multiprocessing` has one too, but its processes
are no leaders of a session, print where the server does, and run a function of
a module that they must all be able to import.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

_LARGEST_REQUEST = 2**17
# What may differ between the server and a worker: nothing that an import reads.
_FREE = ("TF_CONFIG", "TFDP_", "PYTEST_")


class ForkedProcess:
    """A worker that a server has forked; has what is used of a `Popen`.

    Args:
        status: File descriptor from which its process id and then its exit
            code can be read, a line each.
        output: File descriptor that it prints to.

    Attributes:
        pid: Process id.
        stdout: What it prints, as text.

    Raises:
        RuntimeError: If the server has not started it.
    """

    def __init__(self, status: int, output: int) -> None:
        self._status = open(status, encoding="ascii")  # noqa: SIM115
        self.stdout = open(output, encoding="utf-8", errors="replace")  # noqa: SIM115
        self._code: int | None = None
        line = self._status.readline()
        if not line:
            self._status.close()
            self.stdout.close()
            raise RuntimeError(
                "A fork server must live as long as its workers are started. "
                "Received: no answer. Something has ended it; start workers "
                'by start_method="spawn".'
            )
        self.pid = int(line)

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
    >>> server.takes([sys.executable, "train.py"], dict(os.environ))
    True
    >>> server.close()
    """

    def __init__(self, preload: Sequence[str], env: Mapping[str, str]) -> None:
        self._env = _fixed(env)
        self._socket, theirs = socket.socketpair(
            socket.AF_UNIX, socket.SOCK_SEQPACKET
        )
        with theirs:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-u", "-P", __file__),
                    *(str(theirs.fileno()), *preload),
                ],
                env=env,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def takes(self, command: Sequence[str], env: Mapping[str, str]) -> bool:
        """Whether a worker would be the same as one that is started anew.

        Args:
            command: Python, its options `-u` and `-P` or none, a script, and
                its arguments.
            env: All variables of the worker.
        """
        program, _, script, _ = _parts(command)
        return (
            program == sys.executable
            and not script.startswith("-")
            and self._process.poll() is None
            and _fixed(env) == self._env
            and len(_request(command, env)) <= _LARGEST_REQUEST
        )

    def start(
        self, command: Sequence[str], env: Mapping[str, str]
    ) -> ForkedProcess:
        """Starts a script as the leader of a session, without input.

        Args:
            command: As in `takes`.
            env: All variables of the process.

        Returns:
            The process.

        Raises:
            RuntimeError: If the server is gone.
        """
        status, its_status = os.pipe()
        output, its_output = os.pipe()
        with contextlib.suppress(OSError):
            socket.send_fds(
                self._socket,
                [_request(command, env)],
                [its_status, its_output],
            )
        os.close(its_status)
        os.close(its_output)
        return ForkedProcess(status, output)

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
    }
    return json.dumps(request).encode()


def _fixed(env: Mapping[str, str]) -> dict[str, str]:
    return {k: v for k, v in env.items() if not k.startswith(_FREE)}


def _parts(command: Sequence[str]) -> tuple[str, bool, str, list[str]]:
    program, *rest = map(str, command)
    options = set()
    while rest and rest[0] in ("-u", "-P"):
        options.add(rest.pop(0))
    script, *args = rest or ["-"]
    return program, "-P" in options, script, args


def _serve(connection: socket.socket) -> dict[str, Any] | None:
    """Returns in the server at its end, and in each worker with its request."""
    # Nobody waits for those that wait for workers.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # Ctrl-C is for the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.collect()
    gc.freeze()
    while True:
        text, descriptors, _, _ = socket.recv_fds(
            connection, _LARGEST_REQUEST, 2
        )
        if not text:
            return None
        if os.fork() == 0:
            connection.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            status, output = descriptors
            worker = os.fork()
            if worker == 0:
                os.close(status)
                os.setsid()
                for stream in (1, 2):
                    os.dup2(output, stream)
                os.close(output)
                return json.loads(text)
            os.close(output)
            with contextlib.suppress(OSError):
                os.write(status, f"{worker}\n".encode())
                _, code = os.waitpid(worker, 0)
                os.write(
                    status, f"{os.waitstatus_to_exitcode(code)}\n".encode()
                )
            os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)


def _run(request: dict[str, Any]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["folder"])
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    script = request["script"]
    sys.argv = [script, *request["args"]]
    if not request["is_safe_path"]:
        sys.path.insert(0, os.path.dirname(os.path.abspath(script)))
    runpy.run_path(script, run_name="__main__")


def _main(descriptor: str, *preload: str) -> None:
    for name in preload:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    request = _serve(socket.socket(fileno=int(descriptor)))
    if request is not None:
        _run(request)


if __name__ == "__main__":
    _main(*sys.argv[1:])
