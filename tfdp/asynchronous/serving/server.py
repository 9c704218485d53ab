"""The process that holds the weights and the optimizer, a child of the chief.

Run as a program, it is given its settings by the first line of its input, never
by the command line, which others can see. It ends when its input does, which is
when the chief has ended, however it did.
"""

import contextlib
import importlib
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping

import tensorflow as tf

from tfdp.asynchronous.serving.conversation import Conversation
from tfdp.asynchronous.serving.roll_call import RollCall
from tfdp.asynchronous.serving.server_settings import Settings
from tfdp.asynchronous.serving.training import CHIEF, Training
from tfdp.asynchronous.wire import door as doors
from tfdp.asynchronous.wire.connection import Connection
from tfdp.asynchronous.wire.door import Door

_POLL_SECONDS = 0.5
_SECONDS_TO_TELL = 2.0


class Server:
    """Listens, and answers workers, until the chief has ended.

    Args:
        settings: What the chief has said.
        unimported: Modules of it that could not be imported, and why. Defaults
            to none.
        say: Writes a line.

    Raises:
        ValueError: If the settings cannot be.
        OSError: If the address cannot be listened on.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        unimported: Mapping[str, str] | None = None,
        say: Callable[[str], object] = doors.say,
    ) -> None:
        self._settings, self._say = settings, say
        self.training = Training(
            settings.max_staleness, settings.num_workers, unimported
        )
        self._lock = threading.RLock()
        self._here: dict[int, Conversation] = {}
        self._is_ending = False
        self._is_over = threading.Event()
        self._door = Door(
            settings.address, settings.secret, self._welcome, say=say
        )
        self.address = self._door.address
        self._roll_call = RollCall(
            self._absent, self._lose, say, seconds=settings.start_timeout
        )

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until all is over; returns whether it is."""
        return self._is_over.wait(timeout)

    def end(self, why: str) -> None:
        """Tells all workers that all is over, and why. May be called twice."""
        with self._lock:
            if self._is_ending:
                return
            self._is_ending = True
            here, self._here = list(self._here.values()), {}
        self._roll_call.end()
        self._door.close()
        # One that hangs keeps the others from nothing.
        telling = [_told(conversation, why) for conversation in here]
        until = time.monotonic() + _SECONDS_TO_TELL
        for thread in telling:
            thread.join(max(0.0, until - time.monotonic()))
        self._is_over.set()

    def _welcome(self, connected: socket.socket, peer: str) -> None:
        connection = Connection(connected, self._settings.heartbeat_timeout)
        Conversation(
            connection,
            self.training,
            arrive=self._arrive,
            leave=lambda who, why: self._leave(who, why, peer),
            fail=self._fail,
        ).run()

    def _arrive(self, who: Conversation, worker: int) -> None:
        with self._lock:
            before = self._here.get(worker)
            self._here[worker] = who
            if before is not None:
                self.training.lose(worker, "another has come in its place")
        if before is not None:
            _told(before, f"another process has joined as worker {worker}")
        if self._is_ending:
            _told(who, "the training has ended")
        if worker == CHIEF:
            self._roll_call.begin()

    def _leave(self, who: Conversation, why: str, peer: str) -> None:
        with self._lock:
            if who.worker is None or self._here.get(who.worker) is not who:
                if who.worker is None and not self._is_ending:
                    self._say(f"closed a connection from {peer}: {why}.")
                return
            del self._here[who.worker]
            self.training.lose(who.worker, why)
        has_left = why == "it has left"
        if who.worker == CHIEF:
            self.end(
                "the chief has ended the training"
                if has_left
                else f"the chief is lost: {why}"
            )
        elif not has_left:
            self._say(
                f"worker {who.worker} at {peer} is lost: {why}. The others go "
                "on."
            )

    def _fail(self, why: str) -> None:
        self._say(f"{why}. The training ends.")
        self.end(why)

    def _absent(self) -> list[int]:
        workers = range(self._settings.num_workers)
        return [w for w in workers if not self.training.has_come(w)]

    def _lose(self, worker: int) -> None:
        with self._lock:
            if worker not in self._here:
                self.training.lose(worker, "it has never come")


def main() -> None:
    """Serves until the chief has ended, or says so."""
    # They are for the chief, which may still save what it has.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    parent = os.getppid()
    settings = Settings.from_text(sys.stdin.readline())
    sys.path[:] = [*settings.path] or sys.path
    # The chief's own replicas need them.
    tf.config.set_visible_devices([], "GPU")
    try:
        server = Server(settings, unimported=_imported(settings.modules))
    except Exception as error:
        _say(error=str(error))
        return
    _say(address=server.address)
    gone = "the chief's process has ended"

    def read_to_the_end() -> None:
        while sys.stdin.read(4096):
            pass
        server.end(gone)

    threading.Thread(target=read_to_the_end, daemon=True).start()
    # A process that the chief has forked may hold its end of the pipe open.
    while not server.wait(_POLL_SECONDS):
        if os.getppid() != parent:
            server.end(gone)
    # Threads that wait for the dead would be waited for.
    os._exit(0)


def _imported(modules: Iterable[str]) -> dict[str, str]:
    """Imports modules; returns those that cannot be, and why.

    It matters where the optimizer is of one: a program may have registered
    much else, in modules that it alone can load.
    """
    failed = {}
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:
            failed[module] = f"{type(error).__name__}: {error}"
    return failed


def _say(**fields: str) -> None:
    # The chief may have ended before it asked.
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps(fields), flush=True)


def _told(conversation: Conversation, why: str) -> threading.Thread:
    thread = threading.Thread(
        target=conversation.tell, args=(why,), daemon=True
    )
    thread.start()
    return thread


if __name__ == "__main__":
    main()
