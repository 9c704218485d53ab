"""A worker looks for all others, and answers to those who look for it."""

import asyncio
import concurrent.futures
import contextlib
import socket
import time
from collections.abc import Sequence

from tfdp.board import State, own_board
from tfdp.cluster import connections, handshake
from tfdp.cluster.cluster import Cluster
from tfdp.cluster.identity import Identity
from tfdp.machine import ports

# Workers that start together are there at once; others take longer.
_FIRST_POLL_SECONDS, _POLL_SECONDS = 0.01, 0.2
# Connections at a time of others than workers.
_STRANGERS = 64


class Meeting:
    """Finds the other workers, and is found by them.

    Args:
        cluster: Who the workers are; this process is one of them.
    """

    def __init__(self, cluster: Cluster) -> None:
        """Has met nobody yet."""
        self._me = Identity.of(cluster)
        self._address = cluster.address
        self._peers = cluster.peers
        self._not_found = dict.fromkeys(self._peers, "timed out")
        self._not_found_by = set(self._peers)
        self._open = 0
        self._is_over = asyncio.Event()
        self._noted: set[int] = set()

    @property
    def missing(self) -> dict[int, str]:
        """Why this worker and another have not met, by its index."""
        one_way = f"is there, but does not reach this one at {self._address}"
        return {**dict.fromkeys(self._not_found_by, one_way), **self._not_found}

    async def hold(
        self, servers: Sequence[socket.socket], deadline: float
    ) -> None:
        """Listens and asks, until all have met or the time is over.

        Args:
            servers: Sockets that listen on this worker's port; closed then.
            deadline: When to give up, by `time.monotonic()`.
        """
        loop = asyncio.get_running_loop()
        # Who looks up a name waits in a thread.
        loop.set_default_executor(
            concurrent.futures.ThreadPoolExecutor(
                min(64, max(1, len(self._peers)))
            )
        )
        listening_servers = [
            await asyncio.start_server(
                self._serve, sock=server, limit=handshake.LONGEST_LINE
            )
            for server in servers
        ]
        tasks = [loop.create_task(self._find(peer)) for peer in self._peers]
        self._note_progress()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                await self._is_over.wait()
        for task in tasks:
            task.cancel()
        for listening_server in listening_servers:
            listening_server.close()

    async def _find(self, peer: int) -> None:
        host, port = ports.split_address(self._peers[peer])
        pause = _FIRST_POLL_SECONDS
        while peer in self._not_found:
            try:
                reader, writer = await connections.connected(
                    host, port, limit=handshake.LONGEST_LINE
                )
            except (OSError, UnicodeError) as error:
                self._not_found[peer] = connections.reason(error)
            else:
                await self._ask(peer, reader, writer)
            self._note_progress()
            await asyncio.sleep(pause)
            pause = min(2 * pause, _POLL_SECONDS)

    async def _ask(
        self,
        peer: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        strange = f"address answered, but is not worker {peer} of this job: "
        # Should it stay so until the deadline.
        self._not_found[peer] = strange + "it says nothing"
        try:
            async with connections.closing(writer):
                await handshake.ask(reader, writer, self._me, peer)
            del self._not_found[peer]
        except handshake.Stranger as stranger:
            self._not_found[peer] = strange + str(stranger)
        except TimeoutError:
            pass
        except OSError:
            self._not_found[peer] = strange + "it closes the connection"

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if self._open > _STRANGERS + 2 * len(self._peers):
            writer.close()
            return
        self._open += 1
        try:
            # Python 3.11 reports one that is cancelled, as at the end, as an
            # error of its own.
            with contextlib.suppress(
                OSError, handshake.Stranger, asyncio.CancelledError
            ):
                async with connections.closing(writer):
                    found = await handshake.answer(reader, writer, self._me)
                    self._not_found_by.discard(found)
            self._note_progress()
        finally:
            self._open -= 1

    def _note_progress(self) -> None:
        missing = {*self._not_found, *self._not_found_by}
        if missing != self._noted:
            self._noted = missing
            names = ", ".join(map(str, sorted(missing)))
            own_board().note(State.MEETING, f"worker {names}")
        if not missing:
            self._is_over.set()
