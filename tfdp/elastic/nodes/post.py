"""Where a launcher is called by the others, and calls them."""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import threading
from collections.abc import Collection, Coroutine
from typing import Any, Self, TypeVar

from tfdp.cluster import connections, proofs
from tfdp.cluster.connections import STRANGER_SECONDS
from tfdp.cluster.json_lines import Stranger
from tfdp.elastic.nodes.line import (
    LONGEST,
    AnotherJob,
    Line,
    answered,
    called,
)
from tfdp.elastic.nodes.peer import Peer
from tfdp.elastic.nodes.program import difference
from tfdp.elastic.nodes.roster import Roster
from tfdp.machine import listening, ports

# Connections at a time of those who have not proved that they belong here.
_STRANGERS = 64
_LOOK_SECONDS = 0.3
_ANSWER_SECONDS = 2.0

_Result = TypeVar("_Result")


class Refused(RuntimeError):
    """Who leads has no place for this launcher, and will have none."""


@dataclasses.dataclass(frozen=True)
class Caller:
    """Who a launcher says it is.

    Args:
        rank: Place of its machine.
        program: What it starts.
        begun: How many attempts have begun, as far as it knows.
        joins: Whether it is to be led.
    """

    rank: int
    program: dict[str, str]
    begun: int = 0
    joins: bool = False

    @classmethod
    def of(cls, told: dict[str, Any], roster: Roster) -> Self:
        """Returns who has called.

        Args:
            told: What it has told.
            roster: Who there may be.

        Raises:
            Stranger: If it cannot be.
        """
        try:
            caller = cls(**told)
        except TypeError:
            raise Stranger("it does not say who it is") from None
        kinds = (int, dict, int, bool)
        values = dataclasses.astuple(caller)
        if (
            not all(map(isinstance, values, kinds))
            or caller.rank not in roster.others
        ):
            raise Stranger("it is nobody of this job")
        return caller


class Post:
    """Lets launchers of a job find each other, in a thread of its own.

    Args:
        roster: Who they are.
        secret: What only they know; empty for nothing. Then their addresses
            tell the job from others.
        program: What is started here (see `program_of`).

    Attributes:
        begun: How many attempts have begun, as far as is known here. Set it.
        leader: Who leads, as far as is known here; `None` for nobody. Set it.
        members: Who has joined this launcher, by rank, those included that are
            gone meanwhile.
        seen: Whom each launcher that answers calls its leader, by rank.
        rounds: How often all that are looked at have been.
        others: Why who answers at an address is of another job, by rank.
        refusals: Why a launcher of this job refuses this one, by rank.
        is_over: Whether the job is, and all members were told. Set it.

    Raises:
        OSError: If the address cannot be listened on.
    """

    def __init__(
        self, roster: Roster, secret: str, program: dict[str, str]
    ) -> None:
        """Listens, and answers."""
        self._roster = roster
        self._key = proofs.key_of(secret, ["launchers", roster.addresses])
        self._program = program
        self._strangers = 0
        self._targets: frozenset[int] = frozenset()
        self.begun = 0
        self.leader: int | None = None
        self.members: dict[int, Peer] = {}
        self.seen: dict[int, int | None] = {}
        self.rounds = 0
        self.others: dict[int, str] = {}
        self.refusals: dict[int, str] = {}
        self.is_over = False
        self._kept: set[asyncio.Task[None]] = set()
        servers = listening.listeners(
            roster.address, is_local=roster.is_local, backlog=128
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="tfdp post", daemon=True
        )
        self._thread.start()
        self._run(self._open(servers))

    def __enter__(self) -> Self:
        """Returns the post."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Closes it."""
        self.close()

    def look_at(self, ranks: Collection[int]) -> None:
        """Says who is looked at from now on, again and again.

        Args:
            ranks: Theirs.
        """
        if frozenset(ranks) != self._targets:
            self._targets = frozenset(ranks)
            self.seen, self.others, self.refusals = {}, {}, {}
            self.rounds = 0

    def join(self, rank: int) -> Peer:
        """Joins a launcher that leads.

        Args:
            rank: Its rank.

        Returns:
            The line to it.

        Raises:
            Refused: If it has no place for this one.
            ConnectionError: If it does not lead, or not any more.
        """
        return self._run(self._join(rank))

    def close(self) -> None:
        """Tells all members once more what they were told last, and ends."""
        if self._loop.is_closed():
            return
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def hang_up(self) -> None:
        """Leaves all members."""
        for peer in self.members.values():
            peer.leave()
        self.members = {}

    def _run(self, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def _open(self, servers: list[Any]) -> None:
        self._loop.set_default_executor(
            concurrent.futures.ThreadPoolExecutor(min(64, self._roster.size))
        )
        self._servers = [
            await asyncio.start_server(self._serve, sock=server, limit=LONGEST)
            for server in servers
        ]
        self._looking = asyncio.ensure_future(self._look())

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        await asyncio.gather(
            *(p.finish() for p in self.members.values() if not p.gone)
        )
        tasks = [t for t in asyncio.all_tasks() if t != asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self) -> None:
        while True:
            targets = self._targets
            await asyncio.gather(*(self._look_at_one(r) for r in targets))
            if targets == self._targets:
                self.rounds += 1
            await asyncio.sleep(_LOOK_SECONDS)

    async def _look_at_one(self, rank: int) -> None:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                _, answer = await self._call(rank, joins=False)
        except AnotherJob as error:
            self.others[rank] = str(error)
            self.seen.pop(rank, None)
        except (OSError, UnicodeError, Stranger):
            self.seen.pop(rank, None)
        else:
            if refused := answer.get("refused"):
                self.refusals[rank] = str(refused)
            leader = answer.get("leader")
            self.seen[rank] = leader if isinstance(leader, int) else None

    async def _call(
        self, rank: int, *, joins: bool
    ) -> tuple[Line, dict[str, Any]]:
        host, port = ports.split_address(self._roster.addresses[rank])
        reader, writer = await connections.connected(host, port, limit=LONGEST)
        is_kept = False
        try:
            line = await called(reader, writer, self._key)
            caller = Caller(self._roster.rank, self._program, self.begun, joins)
            await line.say(dataclasses.asdict(caller))
            async with asyncio.timeout(STRANGER_SECONDS):
                answer = await line.hear()
            is_kept = joins and answer.get("joined") is True
            return line, answer
        finally:
            if not is_kept:
                writer.close()

    async def _join(self, rank: int) -> Peer:
        try:
            line, answer = await self._call(rank, joins=True)
        except (OSError, UnicodeError, Stranger) as error:
            raise ConnectionError(str(error)) from error
        if refused := answer.get("refused"):
            raise Refused(str(refused))
        if answer.get("joined") is not True:
            raise ConnectionError(str(answer.get("busy", "it does not lead")))
        begun = answer.get("begun")
        if isinstance(begun, int):
            self.begun = max(self.begun, begun)
        peer = Peer(rank, line)
        self._keep(peer)
        return peer

    def _keep(self, peer: Peer) -> None:
        task = asyncio.ensure_future(peer.keep())
        self._kept.add(task)
        task.add_done_callback(self._kept.discard)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if self._strangers >= _STRANGERS:
            writer.close()
            return
        self._strangers += 1
        is_kept = False
        try:
            # It is the end of a task that nobody waits for.
            with contextlib.suppress(OSError, Stranger, asyncio.CancelledError):
                async with asyncio.timeout(STRANGER_SECONDS):
                    line = await answered(reader, writer, self._key)
                    caller = Caller.of(await line.hear(), self._roster)
                    answer = self._answer(caller)
                    await line.say(answer)
                is_kept = answer.get("joined") is True
                if is_kept:
                    self.begun = max(self.begun, caller.begun)
                    peer = Peer(caller.rank, line)
                    self._keep(peer)
                    self.members = {**self.members, caller.rank: peer}
        finally:
            self._strangers -= 1
            if not is_kept:
                writer.close()

    def _answer(self, caller: Caller) -> dict[str, Any]:
        wrong = difference(caller.program, self._program)
        refused = wrong and (
            "All launchers of a job must start one program. Received: "
            f"{wrong}, at {self._roster.address}. Take the same files, "
            "arguments and versions, or another port for another job; what "
            "differs by machine is for the environment."
        )
        leads = self.leader == self._roster.rank
        # Who was here before is right.
        if refused and (leads or self.begun > caller.begun):
            return {"leader": self.leader, "refused": refused}
        if not (caller.joins and leads):
            return {"leader": self.leader}
        there = self.members.get(caller.rank)
        if there is not None and not there.gone:
            return {"busy": f"a launcher of rank {caller.rank} is there"}
        return {"joined": True, "begun": self.begun}
