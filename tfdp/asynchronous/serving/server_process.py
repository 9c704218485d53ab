"""The server as a child process, seen from the chief."""

import contextlib
import dataclasses
import json
import subprocess
import sys
import threading

from tfdp.asynchronous.serving.server_settings import Settings

_SECONDS_TO_END = 5.0


class ServerProcess:
    """Starts a server, and ends it with this process at the latest.

    A blocked step holds a thread of TensorFlow's, and of few the chief may have
    no other: so the server is a process of its own.

    Args:
        settings: What it is told, by a pipe; the secret is in no argument.

    Example:

    ```python
    with ServerProcess(Settings(address, secret, 2, max_staleness=4)) as server:
        exchange = Exchange(server.address(), secret, worker=0)
    ```
    """

    def __init__(self, settings: Settings) -> None:
        """Starts it; it imports TensorFlow while the chief goes on."""
        self._settings = settings
        self._address = ""
        self._asking = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tfdp.asynchronous.serving.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if not settings.path:
            path = tuple(sys.path)
            settings = dataclasses.replace(settings, path=path)
        # It says why where it has ended already.
        with contextlib.suppress(BrokenPipeError):
            print(settings.text, file=self._process.stdin, flush=True)

    def __enter__(self) -> "ServerProcess":
        """Returns the server, which is starting."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Ends it."""
        self.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def address(self) -> str:
        """Waits until it listens, and returns where.

        Raises:
            RuntimeError: If it has ended instead.
        """
        with self._asking:
            if not self._address:
                output = self._process.stdout
                line = output.readline() if output else ""
                answer = json.loads(line) if line else {}
                if "address" not in answer:
                    why = answer.get("error") or (
                        f"it ended with exit code {self._process.wait()}"
                    )
                    raise RuntimeError(
                        "The chief's server must start. Received: "
                        f"{self._settings.address}: {why}. Give the chief a "
                        "free port of its own machine, and see what the "
                        "server has written above."
                    )
                self._address = answer["address"]
            return self._address

    def close(self) -> None:
        """Ends it. May be called twice."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
