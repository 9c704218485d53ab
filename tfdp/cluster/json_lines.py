"""Objects of JSON, one on a line, from who may be a stranger."""

import asyncio
import json
from typing import Any

_SHOWN = 60


class Stranger(Exception):
    """Who speaks does not belong here; says what it is."""


def say(writer: asyncio.StreamWriter, **fields: Any) -> None:
    """Says something.

    Args:
        writer: To whom.
        fields: What.
    """
    writer.write(json.dumps(fields).encode() + b"\n")


async def hear(
    reader: asyncio.StreamReader, **kinds: type | tuple[type, ...]
) -> dict[str, Any]:
    """Hears something, of which only what is asked for is kept.

    Args:
        reader: From whom.
        kinds: Type of each field that there may be.

    Returns:
        The fields that are there; there is at least one.

    Raises:
        Stranger: If it is nothing of the sort.
    """
    try:
        line = await reader.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        shown = f"says {_shown(error.partial)}" if error.partial else "is gone"
        raise Stranger(f"it {shown}") from None
    except asyncio.LimitOverrunError:
        raise Stranger("it talks without end") from None
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        raise Stranger(f"it says {_shown(line)}") from None
    fields = {}
    if isinstance(said, dict):
        fields = {
            name: said[name]
            for name, kind in kinds.items()
            if name in said and isinstance(said[name], kind)
        }
    if not fields:
        raise Stranger(f"it says {_shown(line)}")
    return fields


def _shown(line: bytes) -> str:
    return repr(line[:_SHOWN])[1:] + ("…" if len(line) > _SHOWN else "")
