"""Launchers find each other, and nobody else among them."""

import asyncio
import contextlib
import json
import socket
import threading
import time

import pytest

from tfdp.cluster import proofs
from tfdp.cluster.json_lines import Stranger
from tfdp.elastic import Slots
from tfdp.elastic.nodes import NodeLauncher, Post, Refused, Roster
from tfdp.elastic.nodes import node_launcher as module
from tfdp.elastic.nodes.line import AnotherJob, Line, answered, called
from tfdp.elastic.nodes.orders import Order, Report

PROGRAM = {"script": "1"}


def until(true, seconds=15):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def addresses():
    with contextlib.ExitStack() as stack:
        held = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            for _ in range(3)
        ]
        found = [f"127.0.0.1:{each.getsockname()[1]}" for each in held]
    return tuple(found)


def roster_of(addresses, rank):
    roster = Roster.__new__(Roster)
    for name, value in (
        ("addresses", addresses),
        ("rank", rank),
        ("slots_per_node", 1),
    ):
        object.__setattr__(roster, name, value)
    return roster


@pytest.fixture
def posts(addresses):
    """Opens the post of a rank."""
    with contextlib.ExitStack() as stack:

        def opened(rank, secret="secret", program=PROGRAM):
            # Their workers are never started.
            roster = roster_of(addresses, rank)
            return stack.enter_context(Post(roster, secret, program))

        yield opened


def test_each_sees_whom_others_call_their_leader(posts):
    first, second = posts(0), posts(1)
    second.look_at([0, 2])
    until(lambda: second.rounds)
    assert second.seen == {0: None}
    first.leader = 0
    until(lambda: second.seen == {0: 0})
    first.close()
    until(lambda: second.seen == {})


def test_who_joins_tells_and_is_told(posts):
    first, second = posts(0), posts(1)
    first.leader, first.begun = 0, 4
    leader = second.join(0)
    assert (leader.rank, second.begun) == (0, 4)
    until(lambda: 1 in first.members)
    member = first.members[1]
    leader.tell(runs=True)
    until(lambda: member.heard == {"runs": True})
    member.tell(attempt=1)
    until(lambda: leader.heard == {"attempt": 1})
    leader.leave()
    until(lambda: member.gone)
    assert (member.gone, leader.gone) == ("is gone", "was left")


def test_members_hear_the_last_word(posts):
    first, second = posts(0), posts(1)
    first.leader = 0
    leader = second.join(0)
    until(lambda: 1 in first.members)
    first.members[1].tell(exit_code=3)
    first.close()
    until(lambda: leader.gone)
    assert leader.heard == {"exit_code": 3}


def test_nobody_joins_who_does_not_lead(posts):
    posts(0)
    second = posts(1)
    with pytest.raises(ConnectionError, match="it does not lead"):
        second.join(0)
    with pytest.raises(ConnectionError):
        second.join(2)


def test_one_of_a_rank_is_enough(posts, addresses):
    first, second = posts(0), posts(1)
    first.leader = 0
    leader = second.join(0)
    with pytest.raises(ConnectionError, match="a launcher of rank 1 is there"):
        second.join(0)
    leader.leave()
    until(lambda: first.members[1].gone)
    assert second.join(0).rank == 0


def test_another_program_is_refused(posts):
    first, second = posts(0), posts(1, program={"script": "2"})
    first.leader = 0
    with pytest.raises(Refused, match="script '2' here, '1' there, at 127"):
        second.join(0)
    assert first.members == {}


def test_another_secret_is_another_job(posts):
    first, second = posts(0), posts(1, secret="other")
    first.leader = 0
    second.look_at([0])
    until(lambda: second.others)
    assert second.others == {0: "another job's launcher is there"}
    assert second.seen == {}
    with pytest.raises(ConnectionError):
        second.join(0)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 1000 + b"\n",
        b"[" * 100_000 + b"\n",
        b'{"launcher": 2, "draw": "1"}\n',
        b'{"launcher": 1}\n',
        b'{"launcher": 1, "draw": "1"}\n{"said": {}, "proof": "1"}\n',
        b'{"launcher": 1, "draw": "1"}\n[]\n',
        b"x" * (2**18 + 10),
    ],
)
def test_strangers_disturb_nobody(posts, addresses, said):
    first, second = posts(0), posts(1)
    first.leader = 0
    host, port = addresses[0].split(":")
    stranger = socket.create_connection((host, int(port)), timeout=20)
    with stranger, contextlib.suppress(OSError):
        stranger.sendall(said)
        stranger.shutdown(socket.SHUT_WR)
        while stranger.recv(4096):
            pass
    assert first.members == {}
    assert second.join(0).rank == 0


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"rank": 0, "program": {}},
        {"rank": 3, "program": {}},
        {"rank": "1", "program": {}},
        {"rank": 1, "program": []},
        {"rank": 1, "program": {}, "joins": 1},
        {"rank": 1, "program": {}, "more": 1},
    ],
)
def test_who_knows_the_secret_must_still_be_somebody(posts, addresses, told):
    first = posts(0)
    first.leader = 0
    key = proofs.key_of("secret", ["launchers", addresses])

    async def say():
        host, port = addresses[0].split(":")
        line = await called(*await asyncio.open_connection(host, port), key)
        await line.say(told)
        with pytest.raises(Stranger):
            await line.hear()
        line.writer.close()
        await line.writer.wait_closed()

    asyncio.run(say())
    assert first.members == {}


class Wire:
    """Both ends of a connection, and what is said on it."""

    def __init__(self):
        self.lines = []

    async def run(self, talk):
        async def serve(reader, writer):
            with contextlib.suppress(Stranger, OSError):
                line = await answered(reader, writer, b"key")
                while True:
                    await line.say(await line.hear())
            writer.close()
            is_over.set()

        is_over = asyncio.Event()
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(host, port)
        try:
            return await talk(reader, writer)
        finally:
            writer.close()
            server.close()
            await is_over.wait()
            await writer.wait_closed()


def test_a_line_is_heard_once_and_in_order():
    async def talk(reader, writer):
        line = await called(reader, writer, b"key")
        heard = []
        for number in range(3):
            await line.say({"number": number})
            heard.append(await line.hear())
        return heard

    heard = asyncio.run(Wire().run(talk))
    assert heard == [{"number": number} for number in range(3)]


@pytest.mark.parametrize("tamper", ["repeat", "change", "swap"])
def test_nothing_is_repeated_changed_or_put_in(tamper):
    async def talk(reader, writer):
        line = await called(reader, writer, b"key")
        sent = []

        class Heard:
            def write(self, data):
                sent.append(data)

            async def drain(self):
                pass

        line.writer = Heard()
        await line.say({"number": 1})
        await line.say({"number": 2})
        line.writer = writer
        if tamper == "repeat":
            writer.write(sent[0] + sent[0])
        elif tamper == "swap":
            writer.write(sent[1] + sent[0])
        else:
            fields = json.loads(sent[0])
            fields["said"]["number"] = 7
            writer.write(json.dumps(fields).encode() + b"\n")
        heard = []
        try:
            while True:
                heard.append(await line.hear())
        except Stranger:
            return heard

    heard = asyncio.run(Wire().run(talk))
    assert heard == ([{"number": 1}] if tamper == "repeat" else [])


def test_what_comes_back_is_not_ones_own():
    async def talk(reader, writer):
        line = await called(reader, writer, b"key")
        mirror = Line(reader, writer, b"key", line._draws, has_come=False)
        await mirror.say({"number": 1})
        with pytest.raises(Stranger):
            await line.hear()

    asyncio.run(Wire().run(talk))


def test_a_host_must_prove_itself():
    async def talk(reader, writer):
        with pytest.raises(AnotherJob, match="another job's launcher"):
            await called(reader, writer, b"other key")

    asyncio.run(Wire().run(talk))


def test_another_machine_of_the_same_rank_is_refused(
    posts, addresses, monkeypatch
):
    first, second = posts(0), posts(1)
    first.leader = 0
    leader = second.join(0)
    monkeypatch.setattr(module, "_BUSY_SECONDS", 0.5)
    elsewhere = roster_of((addresses[0], addresses[2]), 1)
    with Post(elsewhere, "secret", PROGRAM) as post:
        launcher = NodeLauncher(
            pytest.fail,
            post=post,
            roster=elsewhere,
            slots=lambda: Slots(1, 2),
            say=print,
        )
        with pytest.raises(
            Refused, match=r"Received: a launcher of rank 1 is there\. Give"
        ):
            launcher.run()
    assert not leader.gone


def test_an_attempt_that_is_over_before_it_began_here_is_told(posts, addresses):
    first = posts(0)
    first.leader = 0
    roster = roster_of(addresses, 1)
    codes = []
    with Post(roster, "secret", PROGRAM) as post:
        launcher = NodeLauncher(
            pytest.fail,
            post=post,
            roster=roster,
            slots=lambda: Slots(1, 2),
            say=print,
        )

        def lead():
            until(lambda: 1 in first.members)
            member = first.members[1]
            over = Order(attempt=3, slots=(0, 1), kills=True)
            member.tell(**over.as_fields())
            until(lambda: Report.of(member.heard).attempt == 3)
            codes.append(Report.of(member.heard).runs)
            member.tell(**Order(exit_code=7).as_fields())

        thread = threading.Thread(target=lead)
        thread.start()
        assert launcher.run() == 7
        thread.join()
    assert codes == [False]
