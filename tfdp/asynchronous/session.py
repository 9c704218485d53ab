"""A worker's side of its connection: it asks, and shows that it lives."""

import collections
import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfdp.asynchronous.serving.conversation import LANES
from tfdp.asynchronous.wire import authentication
from tfdp.asynchronous.wire.authentication import WrongSecret
from tfdp.asynchronous.wire.connection import Connection, Ended
from tfdp.asynchronous.wire.message import Message, Refused
from tfdp.machine import ports

_RETRY_SECONDS = 0.2
_PULSES = 4
_ALL = 2**62
_ERRORS: dict[str, type[Exception]] = {
    "ValueError": ValueError,
    "TypeError": TypeError,
}


class ServerLost(RuntimeError):
    """The server is gone, or will have no more of this worker."""


class Interrupted(Exception):
    """A question is not waited for any more."""


class Session:
    """Asks the server, one question of each lane at a time.

    A thread listens, and one gives signs of life, whatever others wait for.

    Args:
        address: `"host:port"` of the server.
        secret: That of the job.
        worker: Index of this worker.
        heartbeat_timeout: Seconds without a sign of life after which the
            server counts as lost.
        start_timeout: Seconds to wait for it to listen.

    Attributes:
        failure: The last error of `ask`, if any.

    Raises:
        ServerLost: If no server answers in that time.
        ValueError: If what answers knows another secret.
    """

    def __init__(
        self,
        address: str,
        secret: str,
        *,
        worker: int,
        heartbeat_timeout: float,
        start_timeout: float,
    ) -> None:
        self._worker, self._address = worker, address
        self._connection = _connected(
            address, secret, heartbeat_timeout, start_timeout
        )
        # The server has proved that it is of this job.
        self._connection.most_bytes = _ALL
        self._lanes = {name: threading.Lock() for name in LANES.values()}
        self._changed = threading.Condition()
        self._answers: dict[str, Message] = {}
        self._questions = itertools.count()
        self._failure = ""
        self._interrupted: set[str] = set()
        self._interruptions: collections.Counter[str] = collections.Counter()
        self.failure: Exception | None = None
        self._is_closed = threading.Event()
        seconds = heartbeat_timeout / _PULSES
        for function in (self._listen, lambda: self._pulse(seconds)):
            threading.Thread(target=function, daemon=True).start()

    def ask(
        self, kind: str, arrays: Sequence[np.ndarray] = (), **fields: Any
    ) -> Message:
        """Asks, and waits for the answer.

        Args:
            kind: What for, one of `LANES`.
            arrays: Arrays of the message.
            **fields: Its fields.

        Raises:
            ServerLost: If the server is gone, before or meanwhile.
            Interrupted: If this lane is.
            ValueError: Or another error, which the server has answered.
        """
        lane = LANES[kind]
        with self._lanes[lane]:
            self._check()
            # Who was interrupted does not want its answer any more.
            question = next(self._questions)
            before = self._interruptions[lane]
            fields = {**fields, "question": question}
            try:
                self._connection.send(Message(kind, fields, arrays))
            except Ended as error:
                self._fail(str(error))
            with self._changed:
                self._changed.wait_for(
                    lambda: (
                        self._is_answered(lane, question)
                        or self._failure
                        or lane in self._interrupted
                        or self._interruptions[lane] > before
                    )
                )
                is_there = self._is_answered(lane, question)
                answer = self._answers.pop(lane) if is_there else None
        if answer is None:
            self._check()
            raise Interrupted(kind)
        if answer.kind == "error":
            kind_of_error = _ERRORS.get(answer.fields["type"], RuntimeError)
            self.failure = kind_of_error(answer.fields["text"])
            raise self.failure
        return answer

    def interrupt(self, lane: str, *, is_on: bool) -> None:
        """Has nobody wait for an answer of a lane, or wait again.

        Who waits when it is interrupted does not wait on.
        """
        with self._changed:
            if is_on:
                self._interrupted.add(lane)
                self._interruptions[lane] += 1
            else:
                self._interrupted.discard(lane)
            self._changed.notify_all()

    def close(self) -> None:
        """Leaves, for good. May be called twice."""
        if not self._is_closed.is_set():
            self._is_closed.set()
            self._fail("it was closed by this worker")
            with contextlib.suppress(Ended):
                self._connection.send(Message("bye", {}))
            self._connection.close()

    def _is_answered(self, lane: str, question: int) -> bool:
        answer = self._answers.get(lane)
        return answer is not None and answer.fields["question"] == question

    def _listen(self) -> None:
        try:
            while True:
                message = self._connection.receive()
                if message.kind == "over":
                    raise Ended(message.fields["why"])
                if message.kind != "pulse":
                    with self._changed:
                        self._answers[message.fields["lane"]] = message
                        self._changed.notify_all()
        except (Ended, Refused) as error:
            self._fail(str(error))
        finally:
            self._connection.close()

    def _pulse(self, seconds: float) -> None:
        while not self._is_closed.wait(seconds):
            try:
                self._connection.send(Message("pulse", {}))
            except Ended as error:
                self._fail(str(error))
                return

    def _fail(self, why: str) -> None:
        with self._changed:
            self._failure = self._failure or why
            self._changed.notify_all()

    def _check(self) -> None:
        with self._changed:
            is_lost = bool(self._failure)
        if is_lost:
            raise self._lost()

    def _lost(self) -> ServerLost:
        self.failure = ServerLost(
            "An asynchronous worker trains while its server is there. "
            f"Received: worker {self._worker} has lost the server at "
            f"{self._address}: {self._failure}. See what the chief and its "
            "server have written, and start the job again; "
            "`tfdp.callbacks.BackupAndRestore` resumes it."
        )
        return self.failure


def _connected(
    address: str, secret: str, silence: float, seconds: float
) -> Connection:
    until = time.monotonic() + seconds
    why = ""
    while (left := until - time.monotonic()) > 0 or not why:
        connected = None
        try:
            connected = socket.create_connection(
                ports.split_address(address), max(left, 0.1)
            )
            authentication.introduce(connected, secret)
            return Connection(connected, silence)
        except WrongSecret:
            _close(connected)
            raise ValueError(
                "A worker and its server must know the same secret. Received: "
                f"another one at {address}. Start the workers by `tfdp "
                "launch`, or set TFDP_JOB_SECRET to the same text on all of "
                "them."
            ) from None
        except (OSError, Refused) as error:
            _close(connected)
            why = getattr(error, "strerror", None) or str(error) or "timed out"
            time.sleep(_RETRY_SECONDS)
    raise ServerLost(
        "An asynchronous worker needs the server, which the chief starts. "
        f"Received: none at {address} in {seconds:g} s: {why}. Start the "
        "chief, and see that its port can be reached from here."
    )


def _close(connected: socket.socket | None) -> None:
    if connected is not None:
        connected.close()
