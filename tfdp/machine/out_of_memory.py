"""What the kernel's out-of-memory killer has done, as far as it counts it."""

import contextlib
import pathlib
import re

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
    files = [root / "proc/vmstat", *_files_of_own_group(root)]
    counts = (_COUNT.search(_text(path)) for path in files)
    return sum(int(count[1]) for count in counts if count)


def _files_of_own_group(root: pathlib.Path) -> list[pathlib.Path]:
    # Lines such as `0::/job` (version 2) and `4:memory:/job` (version 1).
    files = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        group = group.lstrip("/")
        if not controllers:
            files.append(root / "sys/fs/cgroup" / group / "memory.events")
        elif "memory" in controllers.split(","):
            folder = root / "sys/fs/cgroup/memory" / group
            files.append(folder / "memory.oom_control")
    return files


def _text(path: pathlib.Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text()
    return ""
