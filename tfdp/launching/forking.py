"""The program of a fork server: imports modules, then forks workers on request.

Run as a program: it needs neither tfdp nor what its workers import.
"""

import builtins
import contextlib
import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import sys
import types
from typing import Any, NoReturn

LARGEST_REQUEST = 2**17
_READ_BY_IMPORTS = ("TF_", "KERAS_", "XLA_", "OMP_", "KMP_", "MKL_")
_PR_SET_CHILD_SUBREAPER = 36


def _serve(connection: socket.socket) -> dict[str, Any] | None:
    """Returns in the server at its end, and in each worker with its request."""
    # Nobody waits for keepers.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # Ctrl-C is for the workers.
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.collect()
    gc.freeze()
    while True:
        text, descriptors, _, _ = socket.recv_fds(
            connection, LARGEST_REQUEST, 3
        )
        if not text:
            return None
        if os.fork() == 0:
            connection.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            status, output, permission = descriptors
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            keeper, worker = os.getpid(), os.fork()
            if worker:
                os.close(output)
                os.close(permission)
                _keep(worker, status, f"{worker} {keeper}\n")
            os.close(status)
            os.setsid()
            for stream in (1, 2):
                os.dup2(output, stream)
            os.close(output)
            if not os.read(permission, 1):
                os._exit(1)
            os.close(permission)
            # It is ignored where the server was started so: in the background
            # of a shell.
            signal.signal(signal.SIGINT, interrupt)
            return json.loads(text)
        for descriptor in descriptors:
            os.close(descriptor)


def _keep(worker: int, status: int, numbers: str) -> NoReturn:
    """Tells of a worker, and stays until all that it has started has ended."""
    with contextlib.suppress(ChildProcessError, BrokenPipeError):
        os.write(status, numbers.encode())
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, code = os.wait()
            if pid == worker:
                code = os.waitstatus_to_exitcode(code)
                with contextlib.suppress(BrokenPipeError):
                    os.write(status, f"{code}\n".encode())
                os.close(status)
    os._exit(0)


def _tell_of_late_variables() -> None:
    """Tells of variables that the script sets for what is imported already."""
    told = set()

    def hear(event: str, values: tuple[Any, ...]) -> None:
        if event != "os.putenv":
            return
        name, value = map(os.fsdecode, values)
        is_read = name.startswith(_READ_BY_IMPORTS) and name != "TF_CONFIG"
        keras = sys.modules.get("keras")
        if (
            name == "KERAS_BACKEND"
            and keras
            and value == keras.config.backend()
        ):
            return
        if is_read and name not in told and os.environ.get(name) != value:
            told.add(name)
            print(
                "A variable that TensorFlow or Keras reads when it is imported "
                "must be set before, in a process that is forked from one that "
                f"has done so. Received: {name}={value}, which may have no "
                "effect. Export it, or give it to the launcher by --env.",
                file=sys.stderr,
                flush=True,
            )

    sys.addaudithook(hear)


def _run(request: dict[str, Any]) -> None:
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["folder"])
    os.umask(request["umask"])
    os.sched_setaffinity(0, request["cores"])
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    if "keras" in sys.modules or "tensorflow" in sys.modules:
        _tell_of_late_variables()
    sys.argv = [request["script"], *request["args"]]
    path = os.path.abspath(request["script"])
    if not request["is_safe_path"]:
        sys.path.insert(0, os.path.dirname(path))
    # Not by `runpy`, for which the script is no longer the main program when
    # functions registered by `atexit` run.
    main = types.ModuleType("__main__")
    main.__dict__.update(__file__=path, __builtins__=builtins)
    sys.modules["__main__"] = main
    with open(path, "rb") as file:
        code = compile(file.read(), path, "exec")
    exec(code, main.__dict__)


def _main(descriptor: str, *preload: str) -> None:
    for name in preload:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    request = _serve(socket.socket(fileno=int(descriptor)))
    if request is not None:
        _run(request)


if __name__ == "__main__":
    _main(*sys.argv[1:])
