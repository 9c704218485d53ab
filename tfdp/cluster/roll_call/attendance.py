"""How a process comes to its roll call, and what it says where that fails."""

import asyncio
import concurrent.futures
import contextlib
import datetime
import errno
import socket
import time

from tfdp.cluster import proofs
from tfdp.cluster.connections import run_in_thread
from tfdp.cluster.roll_call.appointment import Appointment
from tfdp.cluster.roll_call.guest import Guest, Refused
from tfdp.cluster.roll_call.host import Host
from tfdp.cluster.roll_call.roll import Party, Seats
from tfdp.machine import listening, ports

_POLL_SECONDS = 0.2
# A process of the attempt before may still be about to end.
_HELD_SECONDS = 10.0


def attend(appointment: Appointment, *, secret: str, timeout: float) -> Seats:
    """Waits until all workers of the job have come, and learns who they are.

    Args:
        appointment: Where, and with how many.
        secret: What only they know; empty for nothing.
        timeout: Seconds to wait at most.

    Returns:
        The address of every worker, and the place of this process's first.
        The ports of this process's workers were free until now.

    Raises:
        TimeoutError: If some did not come in time, with how many have.
        RuntimeError: If another job meets there, this process is refused
            there, or cannot listen there although its rank is 0.

    Example:

    >>> alone = Appointment("127.0.0.1:29500", size=1)
    >>> attend(alone, secret="", timeout=60)
    Seats(addresses=('127.0.0.1:...',), first_index=0)
    """
    own_ports = listening.spare(appointment.count)
    attendance = _Attendance(appointment, secret, own_ports, timeout)
    with contextlib.ExitStack() as stack:
        for port in own_ports:
            stack.enter_context(listening.everywhere(port))
        run_in_thread(attendance.come())
    return attendance.outcome()


class _Attendance:
    """One process's way to a roll call."""

    def __init__(
        self,
        appointment: Appointment,
        secret: str,
        own_ports: list[int],
        timeout: float,
    ) -> None:
        self._appointment = appointment
        self._timeout = timeout
        self._began = datetime.datetime.now()
        self._deadline = time.monotonic() + timeout
        # Not by the address, which each may call by another name.
        self._key = proofs.key_of(secret, ["roll call", appointment.name])
        self._own = Party(
            tuple(
                ports.joined_address(appointment.host, port)
                for port in own_ports
            ),
            appointment.rank,
        )
        self._guest = Guest(appointment, self._key, own_ports)
        self._host: Host | None = None
        self._seats: Seats | None = None
        self._refusal = ""

    async def come(self) -> None:
        """Holds the roll call, or goes there, until all have come."""
        asyncio.get_running_loop().set_default_executor(
            concurrent.futures.ThreadPoolExecutor(1)
        )
        with contextlib.suppress(TimeoutError):
            # A host sees to its deadline itself, so that it can tell all.
            while not (self._seats or self._refusal or self._is_late):
                # A name is looked up, which takes its time.
                may_host = await asyncio.to_thread(
                    lambda: self._appointment.is_host
                )
                servers = self._servers() if may_host else []
                if servers:
                    await self._hold(servers)
                    return
                async with asyncio.timeout(self._seconds_left):
                    await self._visit()
                    await asyncio.sleep(0 if self._seats else _POLL_SECONDS)

    def outcome(self) -> Seats:
        """Returns what was learned, or raises why nothing was."""
        if self._seats:
            return self._seats
        address, size = self._appointment.address, self._appointment.size
        if self._refusal:
            raise RuntimeError(self._refusal)
        if self._host:
            come = f"{self._host.roll.most} of {size}"
            missing = self._host.roll.missing
            what = f"{come}, without rank {missing}" if missing else come
        elif self._guest.come:
            what = f"{self._guest.come} of {size}, as was told there last"
        else:
            what = f"nobody who holds the roll call ({self._guest.reason})"
        raise TimeoutError(
            f"All {size} workers must come to {address} within "
            f"{self._timeout:g} seconds. Received: since "
            f"{self._began:%H:%M:%S} {what}. Start the others, correct the "
            "address they were given, or let them wait longer: `tfdp launch "
            "--start-timeout SECONDS`, or the variable TFDP_START_TIMEOUT."
        )

    @property
    def _seconds_left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    @property
    def _is_late(self) -> bool:
        return not self._seconds_left

    def _servers(self) -> list[socket.socket]:
        """Listens, if nobody else does."""
        try:
            return listening.listeners(
                self._appointment.address,
                is_local=self._appointment.is_local,
                backlog=max(128, 2 * self._appointment.size),
            )
        except OSError as error:
            is_held = error.errno == errno.EADDRINUSE
            waited = self._timeout - self._seconds_left
            has_rank = self._appointment.rank is not None
            if not is_held or (has_rank and waited > _HELD_SECONDS):
                _, port = ports.split_address(self._appointment.address)
                holder = ports.holder(port)
                self._refusal = (
                    "The first worker must be able to listen where all meet. "
                    f"Received: {self._appointment.address}: {error.strerror}"
                    f"{holder and f', held by {holder}'}. End that process, or "
                    "give all workers another port (MASTER_PORT, or TFDP_PORT)."
                )
            return []

    async def _hold(self, servers: list[socket.socket]) -> None:
        self._host = Host(self._appointment.size, self._key, self._own)
        await self._host.hold(servers, self._deadline)
        if self._host.roll.is_complete:
            self._seats = self._host.roll.seats(self._own)

    async def _visit(self) -> None:
        if self._refusal or self._appointment.rank == 0:
            return
        try:
            self._seats = await self._guest.visit()
        except Refused as refused:
            self._refusal = str(refused)
