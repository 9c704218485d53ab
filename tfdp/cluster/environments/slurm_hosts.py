"""Slurm's short form of many host names, written out.

By hand: `python-hostlist`, which does the same, is under the GPL.
"""

import itertools
import math
import re

# Slurm has no more nodes; a slip of the pen must not fill the memory.
MOST_HOSTS = 65536
_NUMBERS = r"[0-9]{1,18}(?:-[0-9]{1,18})?"
_RANGES = rf"\[{_NUMBERS}(?:,{_NUMBERS})*\]"
_HOST = re.compile(rf"(?:[^\[\],\s]|{_RANGES})+")
_COMMA_OUTSIDE_BRACKETS = re.compile(r",(?![^\[]*\])")


def expanded_hosts(text: str) -> tuple[str, ...]:
    """Returns the host names that Slurm's short form stands for.

    Args:
        text: A list such as `"node[01-03,7],login"`.

    Returns:
        The names, in order.

    Raises:
        ValueError: If the text is empty or not of that form.

    Example:

    >>> expanded_hosts("node[08-10],gpu-a[1-2]-x,plain")
    ('node08', 'node09', 'node10', 'gpu-a1-x', 'gpu-a2-x', 'plain')
    """
    hosts: list[str] = []
    for item in _COMMA_OUTSIDE_BRACKETS.split(text):
        if not _HOST.fullmatch(item) or not item.isprintable():
            raise ValueError(
                "A list of Slurm nodes must be of the form "
                f"`node[01-03,7],other`. Received: {text!r}. Start the "
                "workers by `srun`, or set TF_CONFIG yourself."
            )
        pieces = re.split(rf"({_RANGES})", item)
        many = math.prod(how_many(p) for p in pieces if p.startswith("["))
        if len(hosts) + many > MOST_HOSTS:
            raise ValueError(
                f"A list of Slurm nodes must have at most {MOST_HOSTS}. "
                f"Received: {text[:200]!r}. Start the workers by `srun`, or "
                "set TF_CONFIG yourself."
            )
        choices = [
            numbers_in(piece) if piece.startswith("[") else [piece]
            for piece in pieces
        ]
        hosts += map("".join, itertools.product(*choices))
    return tuple(hosts)


def how_many(ranges: str) -> int:
    """Returns how many numbers there are in ranges.

    Args:
        ranges: Ranges with commas between them, in brackets or not.

    Example:

    >>> how_many("[08-10,3]")
    4
    """
    total = 0
    for text in ranges.strip("[]").split(","):
        first, _, last = text.partition("-")
        total += max(0, int(last or first) + 1 - int(first))
    return total


def numbers_in(ranges: str) -> list[str]:
    """Returns the numbers of ranges, with zeros before them as there.

    Args:
        ranges: Ranges with commas between them, in brackets or not.

    Example:

    >>> numbers_in("[08-10,3]")
    ['08', '09', '10', '3']
    """
    numbers: list[str] = []
    for text in ranges.strip("[]").split(","):
        first, _, last = text.partition("-")
        numbers += [
            str(number).zfill(len(first))
            for number in range(int(first), int(last or first) + 1)
        ]
    return numbers
