"""A worker's side of its program for gradients."""

import contextlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import psutil

from tfdp.transport.messages import DONE, REQUEST
from tfdp.transport.shared_memory import SharedMemory

_LOOK_SECONDS = 1.0
# As many looks; where a whole job is stopped, it may go on before its worker.
_STOPPED_LOOKS = 3
_END_SECONDS = 3.0


class Courier:
    """Adds up arrays over workers, by a program that each of them has.

    The program is started at once, and speaks to the others' once all have
    been told where they are: `address` says it for this one, and `connect`
    takes it of all.

    Args:
        rank: Place of this worker among all.
        size: How many there are.
        host: Name or number of this machine, where the others find it.
        seconds: How long the programs look for each other.

    Attributes:
        memory: What arrays lie in.
        taken: How many were taken.
        watch: Called again and again while it is waited for the others; may
            raise, if one is lost.

    Example:

    ```python
    courier = Courier(rank, 2, "10.0.0.1", seconds=30)
    courier.connect(gathered(courier.address()))
    ticket, array = courier.take(gradient)
    courier.wait(ticket)  # Now the array is the sum.
    ```
    """

    def __init__(
        self, rank: int, size: int, host: str, *, seconds: float
    ) -> None:
        self.memory = SharedMemory()
        self.watch: Callable[[], None] = lambda: None
        self.taken = self._done = 0
        self._failure = ""
        self._seconds = seconds
        self._lock = threading.Lock()
        self._waiting = threading.Lock()
        ours, theirs = socket.socketpair()
        is_main = threading.current_thread() is threading.main_thread()
        told = {
            "connection": theirs.fileno(),
            "memory": self.memory.file,
            "rank": rank,
            "size": size,
            "host": host,
            "seconds": seconds,
            # Else it would die with the thread that has started it.
            "dies_with_parent": is_main,
            "parent": os.getpid(),
        }
        with theirs:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "tfdp.transport.program",
                    json.dumps(told),
                ],
                pass_fds=(theirs.fileno(), self.memory.file),
                stdin=subprocess.DEVNULL,
            )
        self._connection = Connection(ours.detach())
        self.close = weakref.finalize(
            self,
            _end,
            os.getpid(),
            self._process,
            self._connection,
            self.memory,
        )

    @property
    def pid(self) -> int:
        """Process id of the program."""
        return self._process.pid

    def address(self) -> Any:
        """Returns what the other workers need to find this one's program.

        Raises:
            ConnectionError: If it cannot listen, or does not begin in time.
        """
        return json.loads(self._heard(self._seconds))

    def connect(self, addresses: Sequence[Any]) -> None:
        """Has the program meet those of the other workers.

        Args:
            addresses: What `address` has returned, by worker.

        Raises:
            ConnectionError: If it does not reach one.
        """
        self._connection.send_bytes(json.dumps(list(addresses)).encode())
        self._heard()

    def take(self, values: np.ndarray) -> tuple[int, np.ndarray]:
        """Takes numbers that are to be added up; all workers in one order.

        Args:
            values: Numbers of this worker, float32.

        Returns:
            A ticket to wait by, and where the sums will be.
        """
        place, sums = self.memory.array(values.shape)
        np.copyto(sums, values)
        request = REQUEST.pack(place, values.size)
        with self._lock:
            self.taken += 1
            with contextlib.suppress(OSError):
                # Whoever waits is told.
                self._connection.send_bytes(request)
            return self.taken, sums

    def wait(self, ticket: int) -> None:
        """Waits until numbers are added up, and those taken before.

        Args:
            ticket: What `take` has returned.

        Raises:
            ConnectionError: If another worker is lost, or a program.
        """
        with self._waiting:
            while self._done < ticket:
                self._heard()
                self._done += 1

    def _heard(self, seconds: float = math.inf) -> bytes:
        if self._failure:
            raise ConnectionError(self._failure)
        stopped, until = 0, time.monotonic() + seconds
        while not self._connection.poll(min(_LOOK_SECONDS, seconds)):
            self.watch()
            if time.monotonic() > until:
                raise self._failed(f"has not begun within {seconds:g} s")
            stopped = stopped + 1 if self._is_stopped() else 0
            if stopped == _STOPPED_LOOKS:
                raise self._failed("is stopped")
        try:
            message = self._connection.recv_bytes()
        except (EOFError, OSError):
            code = self._process.wait()
            by = f"by {signal.Signals(-code).name}" if code < 0 else f"{code}"
            raise self._failed(f"has ended, {by}") from None
        if message == DONE or message.startswith(b"["):
            return message
        self._failure = message.decode(errors="replace")
        raise ConnectionError(self._failure)

    def _is_stopped(self) -> bool:
        status = psutil.Process(self.pid).status()
        return bool(status == psutil.STATUS_STOPPED)

    def _failed(self, how: str) -> ConnectionError:
        self._failure = (
            "A worker must keep the process by which its gradients travel. "
            f"Received: process {self.pid}, {how}. Look at what has done that, "
            "such as too little memory, and start all workers again."
        )
        return ConnectionError(self._failure)


def _end(
    owner: int,
    process: subprocess.Popen[bytes],
    connection: Connection,
    memory: SharedMemory,
) -> None:
    if os.getpid() != owner:
        return
    connection.close()
    # It may wait for others, and hears nothing meanwhile.
    process.kill()
    process.wait(_END_SECONDS)
    memory.close()
