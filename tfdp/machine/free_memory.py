"""How much memory is left."""

import pathlib
import re

import psutil

from tfdp.machine.control_groups import MemoryGroup, memory_groups, text_of

# By version: the limit, what is in use, and of that files that can be dropped.
_FILES = {
    1: (
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
    2: ("memory.max", "memory.current", "inactive_file"),
}


def free_memory(root: pathlib.Path = pathlib.Path("/")) -> int:
    """Returns the bytes that processes can still take, in a container or not.

    Args:
        root: Folder that holds `proc` and `sys`. Defaults to `/`.

    Returns:
        What the machine has left, or the control group of this process or one
        around it, whichever has less.

    Example:

    >>> free_memory(pathlib.Path("/no/such/folder")) > 0
    True
    """
    left = [psutil.virtual_memory().available]
    for group in memory_groups(root):
        for folder in (group.folder, *group.folder.parents):
            if not folder.is_relative_to(root / "sys/fs/cgroup"):
                break
            left += _left(MemoryGroup(folder, group.version))
    return max(min(left), 0)


def _left(group: MemoryGroup) -> list[int]:
    limit, usage, files = _FILES[group.version]
    numbers = [text_of(group.folder / name).strip() for name in (limit, usage)]
    if not all(each.isdecimal() for each in numbers):
        return []  # None is set: its file is missing, or says `max`.
    statistics = text_of(group.folder / "memory.stat")
    dropped = re.search(rf"^{files} (\d+)$", statistics, flags=re.MULTILINE)
    most, used = map(int, numbers)
    return [most - used + (int(dropped[1]) if dropped else 0)]
