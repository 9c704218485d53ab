"""What two launchers say to each other, once both have proved who they are.

```text
who comes  {"launcher": 1, "draw": <number drawn>}
who is     {"draw": <number drawn>, "proof": ...}
both       {"said": {...}, "proof": ...}                 as often as they like
```

Each proof is of both numbers, of the side, of how many lines it has said, and
of all that is said: nothing can be repeated, left out, or put in by others.
"""

import asyncio
from typing import Any

from tfdp.cluster import proofs
from tfdp.cluster.connections import STRANGER_SECONDS
from tfdp.cluster.json_lines import Stranger, hear, say

VERSION = 1
# The last lines of a worker, and what has become of a thousand.
LONGEST = 2**18


class AnotherJob(Stranger):
    """Launchers of another job are there, or know another secret."""


class Line:
    """A connection of which every line is proved.

    Args:
        reader: What the other says.
        writer: What is said to it.
        key: What all launchers of the job know, and nobody else.
        draws: The numbers that were drawn for it, by who came and by who was
            there.
        has_come: Whether this side has come to the other.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        key: bytes,
        draws: tuple[str, str],
        *,
        has_come: bool,
    ) -> None:
        """Has said nothing yet."""
        self._reader = reader
        self.writer = writer
        self._key = key
        self._draws = draws
        self._has_come = has_come
        self._said = 0
        self._heard = 0

    async def say(self, said: dict[str, Any]) -> None:
        """Says something.

        Args:
            said: What JSON can hold.

        Raises:
            OSError: If the connection is gone.
        """
        claims = (*self._draws, self._has_come, self._said, said)
        self._said += 1
        say(self.writer, said=said, proof=proofs.proof(self._key, *claims))
        await self.writer.drain()

    async def hear(self) -> dict[str, Any]:
        """Returns what the other says next.

        Raises:
            Stranger: If it is gone, or not who it was.
            OSError: If the connection breaks.
        """
        told = await hear(self._reader, said=dict, proof=str)
        said = told.get("said", {})
        claims = (*self._draws, not self._has_come, self._heard, said)
        if not proofs.proves(told.get("proof"), self._key, *claims):
            raise AnotherJob("it does not know the key of this job")
        self._heard += 1
        return said


async def called(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: bytes
) -> Line:
    """Returns the line to a launcher, after it has proved that it is one.

    Args:
        reader: What it says.
        writer: What is said to it.
        key: What it must know.

    Raises:
        AnotherJob: If it is one of another job.
        Stranger: If it is none.
        TimeoutError: If it says nothing.
        OSError: If the connection breaks.
    """
    mine = proofs.drawn_number()
    async with asyncio.timeout(STRANGER_SECONDS):
        say(writer, launcher=VERSION, draw=mine)
        answer = await hear(reader, draw=str, proof=str)
    draws = (mine, answer.get("draw", ""))
    if not proofs.proves(answer.get("proof"), key, "launcher", *draws):
        raise AnotherJob("another job's launcher is there")
    return Line(reader, writer, key, draws, has_come=True)


async def answered(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: bytes
) -> Line:
    """Returns the line to who has come; it is for it to prove itself now.

    Args:
        reader: What it says.
        writer: What is said to it.
        key: What it must know.

    Raises:
        Stranger: If it asks for something else.
        OSError: If the connection breaks.
    """
    asked = await hear(reader, launcher=int, draw=str)
    if asked.get("launcher") != VERSION or "draw" not in asked:
        raise Stranger("it asks for something else")
    draws = (asked["draw"], proofs.drawn_number())
    proof = proofs.proof(key, "launcher", *draws)
    say(writer, draw=draws[1], proof=proof)
    return Line(reader, writer, key, draws, has_come=False)
