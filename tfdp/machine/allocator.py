"""How the C library gives memory to a worker, and keeps what it frees.

Gradients are copied several times on their way. By default the C library gets
memory for that from the system, page by page, and gives it back: again for
every update.
"""

import platform

_NEWEST_WITH_A_LIMIT = (2, 34)
_LARGEST_THRESHOLD_THERE = 2**25


def tunables() -> dict[str, str]:
    """Returns the variables that have a program keep its memory.

    It uses huge pages, and what was freed again, for up to 64 MiB at a time,
    in its first thread for more. Its resident memory stays where it was
    highest.

    Returns:
        `GLIBC_TUNABLES`, as described in
        https://sourceware.org/glibc/manual/latest/html_node/Memory-Allocation-Tunables.html;
        nothing where the C library is another.

    Example:

    >>> list(tunables())
    ['GLIBC_TUNABLES']
    """
    library, version = platform.libc_ver()
    if library != "glibc":
        return {}
    mmap_threshold = 2**32
    if tuple(map(int, version.split(".")[:2])) <= _NEWEST_WITH_A_LIMIT:
        # A larger one is ignored, and leaves the least.
        mmap_threshold = _LARGEST_THRESHOLD_THERE
    values = {
        "hugetlb": 1,
        "mmap_threshold": mmap_threshold,
        "trim_threshold": 2**33,
        # Keeps the memory of threads.
        "top_pad": 2**26,
    }
    return {
        "GLIBC_TUNABLES": ":".join(
            f"glibc.malloc.{name}={value}" for name, value in values.items()
        )
    }
