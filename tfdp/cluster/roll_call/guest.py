"""Who comes to a roll call that another process holds."""

import asyncio
import ipaddress
from collections.abc import Sequence

from tfdp.cluster import connections, proofs
from tfdp.cluster.connections import STRANGER_SECONDS
from tfdp.cluster.json_lines import Stranger, hear, say
from tfdp.cluster.roll_call.appointment import Appointment
from tfdp.cluster.roll_call.messages import LONGEST_LIST, VERSION
from tfdp.cluster.roll_call.roll import Seats
from tfdp.machine import listening, ports


class Refused(Exception):
    """The host is of another job, or has no place for this process.

    Its text is the whole message.
    """


class Guest:
    """Comes to a roll call, as often as it takes.

    Args:
        appointment: Where it is held.
        key: What all of the job know, and nobody else.
        own_ports: A port for each of this process's workers.

    Attributes:
        come: How many workers had come when the host said so last.
        reason: Why the last visit has failed.
    """

    def __init__(
        self, appointment: Appointment, key: bytes, own_ports: Sequence[int]
    ) -> None:
        """Has not gone yet."""
        self._appointment = appointment
        self._key = key
        self._ports = own_ports
        self.come = 0
        self.reason = "timed out"

    async def visit(self) -> Seats | None:
        """Goes there once, and waits as long as the host does.

        Returns:
            The list; `None` if there was nobody, or a stranger, or a host that
            ended: `reason` says which.

        Raises:
            Refused: If another time would be no better.
        """
        host, port = ports.split_address(self._appointment.address)
        try:
            reader, writer = await connections.connected(
                host, port, limit=LONGEST_LIST
            )
        except (OSError, UnicodeError) as error:
            self.reason = connections.reason(error)
            return None
        try:
            async with connections.closing(writer):
                async with asyncio.timeout(STRANGER_SECONDS):
                    draws = await self._introduced(reader, writer)
                return await self._told(draws, reader)
        except Stranger as stranger:
            self.reason = f"no roll call is held there: {stranger}"
        except TimeoutError:
            self.reason = "no roll call is held there: it says nothing"
        except OSError:
            self.reason = "it closes the connection"
        return None

    async def _introduced(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[str, str]:
        size, rank = self._appointment.size, self._appointment.rank
        mine = proofs.drawn_number()
        say(writer, tfdp=VERSION, draw=mine)
        answer = await hear(reader, size=int, draw=str, proof=str)
        theirs, their_size = answer.get("draw", ""), answer.get("size")
        claims: tuple[object, ...] = ("host", their_size, mine, theirs)
        if not proofs.proves(answer.get("proof"), self._key, *claims):
            raise Refused(
                "Workers that meet at an address must be of one job. Received: "
                f"{self._appointment.address}, where another job meets, of "
                f"{their_size} workers, or one that was given another "
                "TFDP_JOB_SECRET. Take another port, or give all of them the "
                "same secret and program."
            )
        if their_size != size:
            raise Refused(
                "All workers of a job must be told the same number of workers. "
                f"Received: {size} here, {their_size} at "
                f"{self._appointment.address}. Give all of them one."
            )
        addresses = [
            ports.joined_address(self._own_host(writer), port)
            for port in self._ports
        ]
        claims = ("guest", size, mine, theirs, rank, addresses)
        say(
            writer,
            rank=rank,
            addresses=addresses,
            proof=proofs.proof(self._key, *claims),
        )
        return mine, theirs

    async def _told(
        self, draws: tuple[str, str], reader: asyncio.StreamReader
    ) -> Seats:
        while True:
            async with asyncio.timeout(STRANGER_SECONDS):
                said = await hear(
                    reader,
                    come=int,
                    refused=str,
                    first_index=int,
                    addresses=list,
                    proof=str,
                )
            if "come" in said:
                self.come = said["come"]
                continue
            first, addresses = said.get("first_index"), said.get("addresses")
            claims: tuple[object, ...] = ("list", *draws, first, addresses)
            if "refused" in said:
                claims = ("refused", *draws, said["refused"])
            if not proofs.proves(said.get("proof"), self._key, *claims):
                raise Stranger("it does not prove what it says")
            if "refused" in said:
                raise Refused(said["refused"])
            return Seats(tuple(addresses or ()), first or 0)

    def _own_host(self, writer: asyncio.StreamWriter) -> str:
        """By which others reach this machine: as it has reached the host."""
        own = writer.get_extra_info("sockname")[0].partition("%")[0]
        if ipaddress.ip_address(own).is_loopback and not listening.is_loopback(
            self._appointment.host
        ):
            # Of the host's machine, which others know by that name.
            return self._appointment.host
        return own
