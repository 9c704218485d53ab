"""Connections to other processes of a job, for as long as they are needed.

They live in a loop of a thread, so that the main thread can be interrupted.
"""

import asyncio
import concurrent.futures
import contextlib
import os
import socket
import threading
from collections.abc import AsyncIterator, Coroutine
from typing import Any

# Until it has shown that it belongs to the job.
STRANGER_SECONDS = 10.0


async def connected(
    host: str, port: int, *, limit: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connects to the first address of a host that takes the connection.

    Args:
        host: Name or number.
        port: The port.
        limit: Bytes of the longest line that will be read.

    Returns:
        What it says, and what is said to it.

    Raises:
        OSError: If none does.
        UnicodeError: If the name cannot be one.
    """
    loop = asyncio.get_running_loop()
    failure: OSError = OSError("the name of the host has no address here")
    places = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for family, kind, protocol, _, place in places:
        connection = socket.socket(family, kind, protocol)
        connection.setblocking(False)
        try:
            async with asyncio.timeout(STRANGER_SECONDS):
                await loop.sock_connect(connection, place)
            return await asyncio.open_connection(sock=connection, limit=limit)
        except OSError as error:
            connection.close()
            failure = error
        except BaseException:
            connection.close()
            raise
    raise failure


@contextlib.asynccontextmanager
async def closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    """Closes a connection at the end.

    Args:
        writer: What is said on it.
    """
    try:
        yield
    finally:
        writer.close()


def reason(error: OSError | UnicodeError) -> str:
    """Says why there is no connection, in the words of the system.

    Args:
        error: What was raised.

    Example:

    >>> reason(TimeoutError())
    'timed out'
    """
    if isinstance(error, socket.gaierror):
        return error.strerror or str(error)
    if isinstance(error, TimeoutError):
        return "timed out"
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else str(error)


def run_in_thread(coroutine: Coroutine[Any, Any, None]) -> None:
    """Runs it while this thread can be interrupted, and may have a loop.

    Args:
        coroutine: What to run; it is cancelled where this thread is told to
            end.
    """
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task]] = []
    is_stopped = threading.Event()

    async def run() -> None:
        task = asyncio.ensure_future(coroutine)
        running.append((asyncio.get_running_loop(), task))
        # Who interrupts sets one before it looks at the other.
        if is_stopped.is_set():
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        try:
            # Also while the thread starts this one may be interrupted.
            threads.submit(asyncio.run, run()).result()
        except BaseException:
            is_stopped.set()
            for loop, task in running:
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(task.cancel)
            raise
