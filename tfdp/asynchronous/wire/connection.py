"""A connection that messages go over, both ways at once."""

import contextlib
import itertools
import socket
import threading
from collections.abc import Iterable, Sequence

import numpy as np

from tfdp.asynchronous.wire import message as messages
from tfdp.asynchronous.wire.message import Message

# What the system takes at once, with a margin.
_MOST_BUFFERS = 512
_KEEPALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3}


class Ended(EOFError):
    """The other side is gone; says how it was noticed."""


class Connection:
    """Sends and receives messages; one thread receives, any may send.

    Args:
        connected: A socket that is connected, and authenticated.
        silence: Seconds without a byte after which the other side counts as
            gone, and without room for one.

    Example:

    >>> one, other = map(Connection, socket.socketpair())
    >>> one.send(Message("read", {"worker": 1}, [np.ones(2, "float32")]))
    >>> other.most_bytes = 8
    >>> other.receive()
    Message(kind='read', fields={'worker': 1}, arrays=[array([1., 1.], ...)])
    >>> one.close(), other.close()
    (None, None)
    """

    def __init__(
        self, connected: socket.socket, silence: float | None = None
    ) -> None:
        self._socket = connected
        self._sending = threading.Lock()
        # How many bytes of arrays may come in one message.
        self.most_bytes = 0
        connected.settimeout(silence)
        # A pair of the same machine has none of these.
        with contextlib.suppress(OSError):
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in _KEEPALIVE.items():
                if hasattr(socket, name):
                    connected.setsockopt(
                        socket.IPPROTO_TCP, getattr(socket, name), value
                    )

    def send(self, message: Message) -> None:
        """Sends a message, whole, whichever threads send at a time.

        Raises:
            Ended: If the other side is gone.
        """
        buffers = messages.encoded(message)
        with self._sending, self._noticing():
            self._send(buffers)

    def receive(self) -> Message:
        """Waits for the next message.

        Returns:
            The message. Its arrays have memory of their own, which nothing
            else writes to or reads from: TensorFlow takes arrays over as they
            are.

        Raises:
            Ended: If the other side is gone, or silent for too long.
            Refused: If what comes is no message, or too large.
        """
        with self._noticing():
            prefix = self._received(messages.PREFIX_BYTES)
            length, size = messages.lengths(prefix, most_bytes=self.most_bytes)
            text = self._received(length)
            header = messages.decoded(text, size=size)
            arrays = [np.empty(shape, dtype) for dtype, shape in header.arrays]
            self._receive_into(map(messages.memory, arrays))
        return Message(header.kind, header.fields, arrays)

    def close(self) -> None:
        """Ends the connection; whoever waits for it notices."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _send(self, buffers: Sequence[memoryview]) -> None:
        for part in _in_parts(buffers):
            sent = self._socket.sendmsg(part)
            while part := _after(part, sent):
                sent = self._socket.sendmsg(part)

    def _received(self, length: int) -> bytes:
        text = bytearray(length)
        self._receive_into([memoryview(text)])
        return bytes(text)

    def _receive_into(self, buffers: Iterable[memoryview]) -> None:
        for part in _in_parts(buffers):
            while part:
                count = self._socket.recvmsg_into(part)[0]
                if not count:
                    raise Ended("it has closed the connection")
                part = _after(part, count)

    @contextlib.contextmanager
    def _noticing(self):  # type: ignore[no-untyped-def]
        try:
            yield
        except TimeoutError:
            raise Ended(
                f"nothing came or went for {self._socket.gettimeout():g} s"
            ) from None
        except OSError as error:
            raise Ended(error.strerror or str(error)) from None


def _in_parts(buffers: Iterable[memoryview]) -> Iterable[list[memoryview]]:
    filled = iter([buffer for buffer in buffers if buffer.nbytes])
    while part := list(itertools.islice(filled, _MOST_BUFFERS)):
        yield part


def _after(buffers: Sequence[memoryview], count: int) -> list[memoryview]:
    """Leaves out so many bytes at the beginning."""
    for place, buffer in enumerate(buffers):
        if count < buffer.nbytes:
            return [buffer[count:], *buffers[place + 1 :]]
        count -= buffer.nbytes
    return []
