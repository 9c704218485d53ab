"""The pipe that a worker prints to, read to its end without waiting for it."""

import codecs
import contextlib
import io
import os
import selectors
import threading
import time
from collections.abc import Callable

import psutil

# Of a longer line the parts are passed on, so that it need not fit in memory.
LONGEST_LINE = 64 * 1024
_CHUNK = 64 * 1024
# A process that a worker has left may print on and on.
_LAST_SECONDS = 1.0


class WorkerPipe:
    """Reads what a worker prints, in a thread, line by line.

    Args:
        descriptor: File descriptor of the reading end; closed at the end.
        on_line: Called as `on_line(part, is_end)` with each line, without its
            end; one of more than `longest_line` characters comes in parts, of
            which the last has `is_end`. It must not raise.
        longest_line: Characters of the longest part.

    Example:

    >>> reading, writing = os.pipe()
    >>> pipe = WorkerPipe(reading, print)
    >>> os.write(writing, b"hello")
    5
    >>> pipe.close()
    hello True
    []
    >>> os.close(writing)
    """

    def __init__(
        self,
        descriptor: int,
        on_line: Callable[[str, bool], object],
        *,
        longest_line: int = LONGEST_LINE,
    ) -> None:
        """Starts the thread."""
        self._descriptor = descriptor
        self._on_line = on_line
        self._longest = longest_line
        self._begun: list[str] = []
        self._length = 0
        self._decoder = io.IncrementalNewlineDecoder(
            codecs.getincrementaldecoder("utf-8")("replace"), translate=True
        )
        self._holders: list[psutil.Process] = []
        self._wake, self._waker = os.pipe()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def close(self) -> list[psutil.Process]:
        """Reads what is there, once the worker has ended.

        Returns:
            Processes that could print on, where the system tells; none when
            called again.
        """
        if self._waker >= 0:
            os.close(self._waker)
            self._waker = -1
        # What the listener does with the last lines takes its time.
        self._thread.join(timeout=5)
        holders, self._holders = self._holders, []
        return holders

    def _read(self) -> None:
        # Reads on whatever happens: a worker blocks once its pipe is full.
        deadline = None
        with selectors.DefaultSelector() as selector:
            selector.register(self._descriptor, selectors.EVENT_READ)
            selector.register(self._wake, selectors.EVENT_READ)
            while True:
                ready = selector.select(None if deadline is None else 0)
                found = {key.fd for key, _ in ready}
                if self._descriptor in found:
                    data = os.read(self._descriptor, _CHUNK)
                    if not data:
                        break
                    self._take(self._decoder.decode(data))
                if self._wake in found and deadline is None:
                    selector.unregister(self._wake)
                    deadline = time.monotonic() + _LAST_SECONDS
                elif deadline is not None and (
                    not found or time.monotonic() >= deadline
                ):
                    self._holders = _holders(self._descriptor)
                    break
        self._take(self._decoder.decode(b"", final=True))
        if self._begun:
            self._pass_on(is_end=True)
        os.close(self._descriptor)
        os.close(self._wake)

    def _take(self, text: str) -> None:
        *lines, rest = text.split("\n")
        for line in lines:
            self._add(line)
            self._pass_on(is_end=True)
        self._add(rest)

    def _add(self, text: str) -> None:
        while self._length + len(text) > self._longest:
            room = self._longest - self._length
            self._begun.append(text[:room])
            text = text[room:]
            self._pass_on(is_end=False)
        if text:
            self._begun.append(text)
            self._length += len(text)

    def _pass_on(self, *, is_end: bool) -> None:
        part = "".join(self._begun)
        self._begun, self._length = [], 0
        self._on_line(part, is_end)


def _holders(descriptor: int) -> list[psutil.Process]:
    """Returns the other processes that have this pipe open, if Linux tells."""
    name = f"pipe:[{os.fstat(descriptor).st_ino}]"
    holders = []
    for process in psutil.process_iter():
        folder = f"/proc/{process.pid}/fd"
        if process.pid == os.getpid():
            continue
        with contextlib.suppress(OSError):
            for number in os.listdir(folder):
                with contextlib.suppress(OSError):
                    if os.readlink(f"{folder}/{number}") == name:
                        holders.append(process)
                        break
    return holders
