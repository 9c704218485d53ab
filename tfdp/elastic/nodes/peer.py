"""Another launcher of the job, as long as there is a line to it."""

import asyncio
import contextlib
from typing import Any

from tfdp.cluster.connections import reason
from tfdp.cluster.json_lines import Stranger
from tfdp.elastic.nodes.line import Line

_BEAT_SECONDS = 1.0
SILENCE_SECONDS = 10.0


class Peer:
    """Tells another launcher how things are here, and knows how they are there.

    Each side says all there is to say whenever it changes, and every second;
    who has said nothing for 10 seconds is gone. It lives in an event loop of
    another thread; what is public may be used from any thread.

    Args:
        rank: Place of its machine.
        line: The line to it.

    Attributes:
        rank: As given.
        heard: What it has said last; `{}` before it has said anything.
        gone: Why there is no line any more; empty while there is.
    """

    def __init__(self, rank: int, line: Line) -> None:
        """Has said nothing yet."""
        self.rank = rank
        self.heard: dict[str, Any] = {}
        self.gone = ""
        self._line = line
        self._loop = asyncio.get_running_loop()
        self._told: dict[str, Any] = {}
        self._is_new = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def tell(self, **told: Any) -> None:
        """Says how things are here, now and until they are otherwise.

        Args:
            told: What JSON can hold.
        """
        if told != self._told:
            self._told = told
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._is_new.set)

    async def keep(self) -> None:
        """Says and hears until it is gone, or this task is cancelled."""
        self._task = asyncio.current_task()
        tasks = {
            asyncio.ensure_future(each()) for each in (self._say, self._hear)
        }
        try:
            done, _ = await asyncio.wait(
                tasks, return_when=asyncio.FIRST_COMPLETED
            )
            (first, *_) = done
            self.gone = _why(first.exception())
        finally:
            self.gone = self.gone or "was left"
            for task in tasks:
                task.cancel()
            self._line.writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_BEAT_SECONDS):
                    await self._line.writer.wait_closed()
            self._line.writer.transport.abort()

    def leave(self) -> None:
        """Hangs up."""
        if self._task is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._task.cancel)

    async def finish(self) -> None:
        """Says once more how things are here, for the last time."""
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_BEAT_SECONDS):
                await self._line.say(self._told)

    async def _say(self) -> None:
        while True:
            self._is_new.clear()
            await self._line.say(self._told)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_BEAT_SECONDS):
                    await self._is_new.wait()

    async def _hear(self) -> None:
        while True:
            async with asyncio.timeout(SILENCE_SECONDS):
                said = await self._line.hear()
            self.heard = said


def _why(error: BaseException | None) -> str:
    if isinstance(error, TimeoutError):
        return f"has said nothing for {SILENCE_SECONDS:g} s"
    if isinstance(error, Stranger):
        return str(error).removeprefix("it ")
    if isinstance(error, OSError):
        return f"cannot be reached ({reason(error)})"
    return "is gone"
