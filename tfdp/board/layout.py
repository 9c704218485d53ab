"""What a board's file consists of: a heading, and two places for a standing.

They are written in turn. So one of them is always whole, also where the writer
is killed or stopped in the middle of the other.
"""

import struct

from tfdp.board.standing import SIZE, Standing

_HEADING = struct.Struct("<12sI")
_NAME = b"tfdp board"
_VERSION = 2
# What a worker tells of the logs that it writes is in a file of this ending.
LOGS = ".logs"
LENGTH = _HEADING.size + 2 * SIZE


def blank(standing: Standing) -> bytes:
    """Returns the contents of a file that nobody has written to yet.

    Args:
        standing: Where the worker stands before it says so.

    Example:

    >>> newest(blank(Standing(pid=7))).pid
    7
    """
    content = bytearray(LENGTH)
    content[: _HEADING.size] = _HEADING.pack(_NAME, _VERSION)
    content[place(standing.sequence)] = standing.packed()
    return bytes(content)


def place(sequence: int) -> slice:
    """Returns where in the file a standing is.

    Args:
        sequence: How often the board was written.
    """
    begin = _HEADING.size + sequence % 2 * SIZE
    return slice(begin, begin + SIZE)


def flaw(content: bytes) -> str:
    """Says why a file is no board, by what is the same in every one.

    Args:
        content: All of it.

    Returns:
        The reason; empty where it is one.

    Example:

    >>> flaw(b"hello")
    '5 bytes instead of 720'
    """
    if len(content) != LENGTH:
        return f"{len(content)} bytes instead of {LENGTH}"
    name, version = _HEADING.unpack(content[: _HEADING.size])
    if name.rstrip(b"\0") != _NAME:
        return "something else than a board"
    if version != _VERSION:
        return f"version {version} instead of {_VERSION}"
    return ""


def newest(content: bytes) -> Standing | None:
    """Returns the last standing that is whole, if there is one.

    Args:
        content: All of the file.
    """
    if flaw(content):
        return None
    found = [Standing.unpacked(content[place(n)]) for n in range(2)]
    whole = [each for each in found if each is not None]
    return max(whole, key=lambda each: each.sequence, default=None)
