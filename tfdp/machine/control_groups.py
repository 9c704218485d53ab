"""The control groups that share out memory, of which containers consist."""

import contextlib
import pathlib
from typing import NamedTuple


class MemoryGroup(NamedTuple):
    """A control group that this process belongs to.

    Attributes:
        folder: Where its files are.
        version: Of control groups, 1 or 2; their files have other names.
    """

    folder: pathlib.Path
    version: int


def memory_groups(root: pathlib.Path) -> list[MemoryGroup]:
    """Returns the control groups of this process that count memory.

    Args:
        root: Folder that holds `proc` and `sys`.
    """
    # Lines such as `0::/job` (version 2) and `4:memory:/job` (version 1).
    found = []
    for line in text_of(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        group = group.lstrip("/")
        if not controllers:
            found.append(MemoryGroup(root / "sys/fs/cgroup" / group, 2))
        elif "memory" in controllers.split(","):
            folder = root / "sys/fs/cgroup/memory" / group
            found.append(MemoryGroup(folder, 1))
    return found


def text_of(path: pathlib.Path) -> str:
    """Returns what a file says; nothing where it cannot be read."""
    with contextlib.suppress(OSError):
        return path.read_text()
    return ""
