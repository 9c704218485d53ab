"""How two processes prove to each other that they know the secret of a job.

Each draws a number for this connection, and gets back a code (HMAC-SHA256) that
only who knows the secret can make of both. What was overheard of another
connection proves nothing, and neither does what one side has said itself.

```text
server  tfdp-exchange-1 <number of the server>
worker  <number of the worker> <code of the worker>
server  <code of the server, or zeros>
```

It keeps strangers out. What follows is neither encrypted nor signed: whoever
can change packets on their way needs to be kept off the network.
"""

import hmac
import secrets
import socket
import time

from tfdp.asynchronous.wire.message import Refused, shown

_GREETING = b"tfdp-exchange-1 "
_NUMBER, _CODE = 32, 64
_NO = b"0" * _CODE
# How long all of it may take.
SECONDS = 5.0
_ALLOWED = frozenset(b"0123456789abcdef \n")


class WrongSecret(Exception):
    """The other side knows another secret than this one."""


def admit(
    stranger: socket.socket, secret: str, *, seconds: float = SECONDS
) -> None:
    """Finds out, as the server, that who connects knows the secret.

    Args:
        stranger: The connection, of which not a byte was read.
        secret: That of the job.
        seconds: How long all of it may take.

    Raises:
        Refused: If it does not; says what it did.
    """
    until = time.monotonic() + seconds
    own = _drawn()
    try:
        stranger.settimeout(seconds)
        stranger.sendall(_GREETING + own + b"\n")
        answer = _received(stranger, _NUMBER + _CODE + 2, until)
        theirs, code = answer[:_NUMBER], answer[_NUMBER + 1 : -1]
        if not hmac.compare_digest(code, _code(secret, b"worker", own, theirs)):
            stranger.sendall(_NO + b"\n")
            raise Refused("it does not know the secret of this job")
        stranger.sendall(_code(secret, b"server", own, theirs) + b"\n")
    except TimeoutError:
        raise Refused(f"it has not said who it is in {seconds:g} s") from None
    except OSError as error:
        raise Refused(error.strerror or str(error)) from None


def introduce(
    server: socket.socket, secret: str, *, seconds: float = SECONDS
) -> None:
    """Proves, as a worker, to know the secret, and has the server do so.

    Args:
        server: The connection, of which not a byte was read.
        secret: That of the job.
        seconds: How long all of it may take.

    Raises:
        WrongSecret: If the other side does not know this secret.
        Refused: If the other side is no server at all.
        OSError: If the connection ends, or it takes too long.
    """
    until = time.monotonic() + seconds
    greeting = _received(
        server, len(_GREETING) + _NUMBER + 1, until, begin=_GREETING
    )
    theirs, own = greeting[len(_GREETING) : -1], _drawn()
    code = _code(secret, b"worker", theirs, own)
    server.sendall(own + b" " + code + b"\n")
    answer = _received(server, _CODE + 1, until)[:-1]
    if not hmac.compare_digest(answer, _code(secret, b"server", theirs, own)):
        raise WrongSecret


def _drawn() -> bytes:
    return secrets.token_hex(_NUMBER // 2).encode()


def _code(secret: str, side: bytes, server: bytes, worker: bytes) -> bytes:
    text = b" ".join([_GREETING.strip(), side, server, worker])
    return hmac.new(secret.encode(), text, "sha256").hexdigest().encode()


def _received(
    connected: socket.socket, length: int, until: float, begin: bytes = b""
) -> bytes:
    """Returns so many bytes, or raises as soon as they are something else."""
    text = b""
    while len(text) < length:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connected.settimeout(left)
        more = connected.recv(length - len(text))
        if not more:
            raise ConnectionResetError(None, "it has closed the connection")
        text += more
        if not text.startswith(begin[: len(text)]) or not _ALLOWED.issuperset(
            text[len(begin) :]
        ):
            raise Refused(f"it says {shown(text)}")
    return text
