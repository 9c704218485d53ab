"""Where workers come in: who listens, and whom it lets pass."""

import contextlib
import socket
import sys
import threading
from collections.abc import Callable

from tfdp.asynchronous.wire import authentication
from tfdp.asynchronous.wire.message import Refused
from tfdp.machine import listening, ports

# Connections at a time of whom nobody knows yet.
_STRANGERS = 64
# How many lines of refusals are written at the most.
_MOST_LINES = 100


def say(line: str) -> None:
    """Writes a line to where the server's words go."""
    # One write, so that no other output comes between it and the line's end.
    sys.stderr.write(f"tfdp server: {line}\n")
    sys.stderr.flush()


class Door:
    """Listens on one address, and has each stranger say who it is.

    Each does so in a thread of its own, in a few seconds, and not too many at a
    time: nobody who is slow, or says nothing, keeps others out. What is refused
    is told in one line, the same only once.

    Args:
        address: `"host:port"`, which alone is listened on; port 0 for one
            that is free.
        secret: That of the job.
        welcome: Called with the connection of whom knows it, and the address
            that it comes from, in a thread of its own.
        say: Writes a line.
        seconds: How long a stranger may take. Defaults to 5.

    Raises:
        ValueError: If there is no secret.
        OSError: If the address cannot be listened on.
    """

    def __init__(
        self,
        address: str,
        secret: str,
        welcome: Callable[[socket.socket, str], object],
        *,
        say: Callable[[str], object] = say,
        seconds: float = authentication.SECONDS,
    ) -> None:
        if not secret:
            raise ValueError(
                "A server admits who knows the secret of its job. Received: an "
                "empty secret. Start the workers by `tfdp launch`, or set "
                "TFDP_JOB_SECRET to the same text on all of them."
            )
        self._secret, self._welcome = secret, welcome
        self._say, self._seconds = say, seconds
        self._strangers = threading.BoundedSemaphore(_STRANGERS)
        self._said: set[str] = set()
        self._sockets = listening.at(address)
        host, _ = ports.split_address(address)
        port = self._sockets[0].getsockname()[1]
        self.address = ports.joined_address(host, port)
        for server in self._sockets:
            _start(self._accept, server)

    def close(self) -> None:
        """Lets nobody in any more."""
        for server in self._sockets:
            # Else who accepts would go on to wait.
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            server.close()

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                stranger, place = server.accept()
            except OSError:
                if server.fileno() < 0:
                    return
                # Out of files, for example, until others close theirs.
                threading.Event().wait(0.1)
                continue
            if self._strangers.acquire(blocking=False):
                _start(self._admit, stranger, ports.joined_address(*place[:2]))
            else:
                self._refuse(stranger, place[0], "too many ask at a time")

    def _admit(self, stranger: socket.socket, peer: str) -> None:
        try:
            authentication.admit(stranger, self._secret, seconds=self._seconds)
        except Refused as error:
            host, _ = ports.split_address(peer)
            self._refuse(stranger, host, str(error))
            return
        finally:
            self._strangers.release()
        self._welcome(stranger, peer)

    def _refuse(self, stranger: socket.socket, host: str, why: str) -> None:
        stranger.close()
        line = f"refused a connection from {host}: {why}."
        if line not in self._said and len(self._said) < _MOST_LINES:
            self._said.add(line)
            self._say(line)


def _start(function: Callable[..., object], *args: object) -> None:
    threading.Thread(target=function, args=args, daemon=True).start()
