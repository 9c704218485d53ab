"""What the kernel's out-of-memory killer has done, as far as it counts it."""

import pathlib
import re

from tfdp.machine.control_groups import memory_groups, text_of

_FILES = {1: "memory.oom_control", 2: "memory.events"}
_COUNT = re.compile(r"^oom_kill (\d+)$", flags=re.MULTILINE)


def oom_kills(root: pathlib.Path = pathlib.Path("/")) -> int:
    """Returns a number that grows when the out-of-memory killer acts.

    It counts the processes killed on this machine and, once more, those of
    this process's control group, which is all a container may see.

    Args:
        root: Folder that holds `proc` and `sys`. Defaults to `/`.

    Returns:
        The number; 0 where the system does not count.

    Example:

    >>> oom_kills(pathlib.Path("/no/such/folder"))
    0
    """
    files = [root / "proc/vmstat"]
    for folder, version in memory_groups(root):
        files.append(folder / _FILES[version])
    counts = (_COUNT.search(text_of(path)) for path in files)
    return sum(int(count[1]) for count in counts if count)
