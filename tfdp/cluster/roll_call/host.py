"""Who holds a roll call: listens, lets in, and tells all the list."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Sequence

from tfdp.cluster import proofs
from tfdp.cluster.addresses import check_address
from tfdp.cluster.connections import STRANGER_SECONDS, closing
from tfdp.cluster.json_lines import Stranger, hear, say
from tfdp.cluster.roll_call.messages import LONGEST_LINE, VERSION
from tfdp.cluster.roll_call.roll import Party, Roll

# Connections at a time of those who have not proved that they belong here.
_STRANGERS = 64
_TOLD_SECONDS = 1.0
_POLL_SECONDS = 0.02


class Host:
    """Holds a roll call until all have come.

    Args:
        size: Number of workers of the job.
        key: What they know, and nobody else.
        own: This process's workers, who are there already.
    """

    def __init__(self, size: int, key: bytes, own: Party) -> None:
        """Has let in nobody else."""
        self.roll = Roll(size, is_ranked=own.rank is not None)
        self.roll.enter(own)
        self._size = size
        self._key = key
        self._strangers = 0
        self._kept = 0
        self._all_here = asyncio.Event()

    async def hold(
        self, servers: Sequence[socket.socket], deadline: float
    ) -> None:
        """Listens until all have come and were told, or the time is over.

        Args:
            servers: Sockets that listen; closed then.
            deadline: When to give up, by `time.monotonic()`.
        """
        listening_servers = [
            await asyncio.start_server(
                self._serve, sock=server, limit=LONGEST_LINE
            )
            for server in servers
        ]
        try:
            self._note_progress()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(
                    max(0.0, deadline - time.monotonic())
                ):
                    await self._all_here.wait()
                    # Who was told goes by itself.
                    while self._kept:
                        await asyncio.sleep(_POLL_SECONDS)
        finally:
            for server in listening_servers:
                server.close()

    def _note_progress(self) -> None:
        if self.roll.is_complete:
            self._all_here.set()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if self._strangers >= _STRANGERS:
            writer.close()
            return
        self._strangers += 1
        try:
            # It is the end of a task that nobody waits for.
            with contextlib.suppress(OSError, Stranger, asyncio.CancelledError):
                async with closing(writer):
                    try:
                        async with asyncio.timeout(STRANGER_SECONDS):
                            party, draws = await self._known(reader, writer)
                    finally:
                        self._strangers -= 1
                    await self._keep(party, draws, reader, writer)
        finally:
            self._note_progress()

    async def _known(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[Party, tuple[str, str]]:
        """Returns who has come, once that is proved."""
        asked = await hear(reader, tfdp=int, draw=str)
        if asked.get("tfdp") != VERSION or "draw" not in asked:
            raise Stranger("it asks for something else")
        draws = (asked["draw"], proofs.drawn_number())
        proof = proofs.proof(self._key, "host", self._size, *draws)
        say(writer, size=self._size, draw=draws[1], proof=proof)
        told = await hear(reader, rank=int, addresses=list, proof=str)
        rank, addresses = told.get("rank"), told.get("addresses")
        claims = ("guest", self._size, *draws, rank, addresses)
        if not proofs.proves(told.get("proof"), self._key, *claims):
            raise Stranger("it does not know the key of this job")
        try:
            for address in addresses or ["none"]:
                check_address(address)
        except ValueError:
            raise Stranger("it has no address") from None
        return Party(tuple(addresses or ()), rank), draws

    async def _keep(
        self,
        party: Party,
        draws: tuple[str, str],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Has somebody wait for the others, and tells the list."""
        refusal = self.roll.enter(party)
        if refusal:
            proof = proofs.proof(self._key, "refused", *draws, refusal)
            say(writer, refused=refusal, proof=proof)
            await writer.drain()
            return
        self._note_progress()
        # Nothing more is to be said by it: this ends when it is gone.
        gone = asyncio.ensure_future(reader.read(1))
        all_here = asyncio.ensure_future(self._all_here.wait())
        self._kept += 1
        try:
            while not self._all_here.is_set():
                say(writer, come=self.roll.come)
                await writer.drain()
                await asyncio.wait(
                    {gone, all_here},
                    timeout=_TOLD_SECONDS,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if gone.done() and not self._all_here.is_set():
                    return
            seats = self.roll.seats(party)
            addresses = list(seats.addresses)
            claims = ("list", *draws, seats.first_index, addresses)
            say(
                writer,
                first_index=seats.first_index,
                addresses=addresses,
                proof=proofs.proof(self._key, *claims),
            )
            await writer.drain()
            await asyncio.wait({gone}, timeout=STRANGER_SECONDS)
        finally:
            self.roll.leave(party)
            self._kept -= 1
            for task in (gone, all_here):
                task.cancel()
