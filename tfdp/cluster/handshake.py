"""What two workers say to each other when they meet, line by line.

```text
tfdp1 ask <index of who asks> <number drawn>
tfdp1 answer <index> <count> <number drawn> <proof of who answers>
tfdp1 confirm <proof of who asks>
tfdp1 met
```

Nothing is taken from a stranger but a line of 256 bytes, in 10 seconds.
"""

import asyncio

from tfdp.cluster.connections import STRANGER_SECONDS
from tfdp.cluster.identity import Identity
from tfdp.cluster.proofs import drawn_number
from tfdp.machine import ports

LONGEST_LINE = 256
_START = b"tfdp1 "
_SHOWN = 60


class Stranger(Exception):
    """Who answers is not the worker that was asked for; says what it is."""


async def ask(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    me: Identity,
    peer: int,
) -> None:
    """Asks who listens at the address of a worker, until both have met.

    Args:
        reader: What it says.
        writer: What is said to it.
        me: Who this process is.
        peer: Index of the worker that should listen there.

    Raises:
        Stranger: If it is anybody else.
    """
    mine = drawn_number()
    _say(writer, "ask", me.index, mine)
    async with asyncio.timeout(STRANGER_SECONDS):
        words = await _hear(reader, "answer", 4)
    index, count, theirs, proof = words
    if not ports.is_whole(count) or int(count) != me.count:
        raise Stranger(f"it is worker {index} of a job of {count}")
    if not me.proves(proof, "answer", index, me.index, mine, theirs):
        raise Stranger(
            f"it is worker {index} of another job, or was given another "
            "cluster or TFDP_JOB_SECRET"
        )
    if index != str(peer):
        raise Stranger(f"it is worker {index} of this job")
    _say(writer, "confirm", me.proof("confirm", me.index, index, mine, theirs))
    await _hear(reader, "met", 0)


async def answer(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    me: Identity,
) -> int:
    """Answers who asks, and finds out who that is.

    Args:
        reader: What it says.
        writer: What is said to it.
        me: Who this process is.

    Returns:
        Index of the worker that has asked; it knows of this one now.

    Raises:
        Stranger: If it is no worker of this job.
        TimeoutError: If it takes too long.
    """
    async with asyncio.timeout(STRANGER_SECONDS):
        index, theirs = await _hear(reader, "ask", 2)
        mine = drawn_number()
        proof = me.proof("answer", str(me.index), _index(index), theirs, mine)
        _say(writer, "answer", me.index, me.count, mine, proof)
        (proof,) = await _hear(reader, "confirm", 1)
    if not me.proves(
        proof, "confirm", _index(index), str(me.index), theirs, mine
    ):
        raise Stranger("it does not know the key of this job")
    _say(writer, "met")
    await writer.drain()
    return _index(index)


def _index(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise Stranger(f"it is worker {text!r}")
    return int(text)


def _say(writer: asyncio.StreamWriter, *words: object) -> None:
    writer.write(_START + " ".join(map(str, words)).encode() + b"\n")


async def _hear(
    reader: asyncio.StreamReader, verb: str, count: int
) -> list[str]:
    """Returns the words of a line, or raises as soon as it is no such line."""
    line = b""
    while not line.endswith(b"\n"):
        more = await reader.read(LONGEST_LINE - len(line))
        if not (more or line):
            raise Stranger("it closes the connection")
        line += more
        if not (line.startswith(_START[: len(line)])) or not more:
            raise Stranger(f"it says {_shown(line)}")
        if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
            raise Stranger(f"it says {_shown(line)} and goes on")
    words = line[len(_START) :].decode("ascii", "replace").split()
    if len(words) != count + 1 or words[0] != verb:
        raise Stranger(f"it says {_shown(line)}")
    return words[1:]


def _shown(line: bytes) -> str:
    return repr(line[:_SHOWN])[1:] + ("…" if len(line) > _SHOWN else "")
