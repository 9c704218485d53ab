"""The cores of this machine, shared out to the workers on it."""

import contextlib
import os
from collections.abc import Collection, Iterator

from tfdp.checks import checked_count


def usable_cores() -> int:
    """Returns how many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def core_shares(num_workers: int, cpus_per_worker: int) -> list[set[int]]:
    """Returns cores for each worker of this machine, of its own.

    A core is what the operating system counts as one (a hardware thread). Only
    those that this process may use are shared out.

    Args:
        num_workers: Number of workers on this machine.
        cpus_per_worker: Number of cores of each; at least 1.

    Returns:
        The numbers of the cores, by worker.

    Raises:
        TypeError: If `cpus_per_worker` is not an integer.
        ValueError: If `cpus_per_worker` is below 1, or there are too few.
        RuntimeError: If this system cannot keep a process on chosen cores.

    Example:

    >>> [len(cores) for cores in core_shares(1, 1)]
    [1]
    """
    cpus_per_worker = checked_count(
        "cpus_per_worker", cpus_per_worker, minimum=-(2**63)
    )
    if cpus_per_worker < 1:
        raise ValueError(
            "A worker must have at least one core. Received: "
            f"cpus_per_worker={cpus_per_worker}. Leave it out to let all "
            "workers use all cores."
        )
    if not hasattr(os, "sched_setaffinity"):
        raise RuntimeError(
            "Only Linux keeps a process on chosen cores. Received: "
            f"cpus_per_worker={cpus_per_worker}. Leave it out."
        )
    cores = sorted(os.sched_getaffinity(0))
    if num_workers * cpus_per_worker > len(cores):
        most = len(cores) // num_workers
        way_out = (
            f"Use at most {most}"
            if most
            else f"Start at most {len(cores)} worker(s)"
        )
        raise ValueError(
            "Every worker must have cores of its own. Received: "
            f"cpus_per_worker={cpus_per_worker} with {num_workers} workers "
            f"here, and {len(cores)} core(s) to use. {way_out}, or leave it "
            "out to let all workers use all cores."
        )
    return [
        set(cores[i * cpus_per_worker : (i + 1) * cpus_per_worker])
        for i in range(num_workers)
    ]


@contextlib.contextmanager
def keep_to(cores: Collection[int] | None) -> Iterator[None]:
    """Processes started inside of the `with` block stay on these cores.

    So does the thread that runs the block, until its end.

    Args:
        cores: Numbers of the cores; `None` for no limit.

    Yields:
        Nothing.

    Example:

    >>> with keep_to(None):
    ...     pass
    """
    if cores is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def thread_variables(cpus_per_worker: int) -> dict[str, str]:
    """Returns the variables that give TensorFlow one thread per core.

    Args:
        cpus_per_worker: Number of cores of a worker.

    Returns:
        Values by name.

    Example:

    >>> thread_variables(4)["TF_NUM_INTRAOP_THREADS"]
    '4'
    """
    names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    return dict.fromkeys((*names, "OMP_NUM_THREADS"), str(cpus_per_worker))
