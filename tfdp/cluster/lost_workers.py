"""What TensorFlow says when a worker is gone, in words that name it."""

import atexit
import contextlib
import faulthandler
import functools
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

from tfdp.cluster.cluster import Cluster
from tfdp.cluster.rendezvous import unreachable

_TASK = re.compile(r"/job:(\w+)/(?:replica:\d+/)?task:(\d+)")
_EXIT_SECONDS = 3
_CLOSING_SECONDS, _POLL_SECONDS = 3.0, 0.05


def naming_lost_workers(
    function: Callable[..., Any], cluster: Cluster
) -> Callable[..., Any]:
    """Returns `function`, whose errors say which worker was lost.

    Args:
        function: What runs steps together with other workers.
        cluster: Who they are.
    """

    signs = _signs()

    @functools.wraps(function)
    def naming(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except signs as error:
            lost = _lost(error, cluster) or _closing(error, cluster)
            if lost:
                error.add_note(
                    f"Lost {lost}: it was killed, failed, or hangs; its own "
                    "output says more. Training on several workers cannot go "
                    "on without one. Start all of them again, as `tfdp launch "
                    "--max-restarts` does; `callbacks.BackupAndRestore` "
                    "resumes where they were."
                )
                exit_in_time()
            raise

    return naming


@contextlib.contextmanager
def meeting_all_workers(cluster: Cluster | None) -> Iterator[None]:
    """Has an error of the calls that all workers make together say so first.

    Args:
        cluster: Who they are; `None` where that is not known.

    Raises:
        tf.errors.OpError: Of the kind that TensorFlow raises.
    """
    try:
        yield
    except _signs() as error:
        lost = _lost(error, cluster) if cluster else ""
        exit_in_time()
        raise type(error)(
            error.node_def,
            error.op,
            "Every worker must make the same calls of `fit`, `evaluate`, "
            "`predict` and of a strategy, as they wait for each other in them. "
            f"Received: a call without {lost or 'some of them'}, which has "
            "ended, by a failure that its own output tells, or at the end of "
            "its program. In the second case make the call on every worker, "
            "not under `if strategy.is_chief:` alone. TensorFlow says: "
            f"{error.message}",
        ) from error


def _signs() -> tuple[type[Any], ...]:
    # This room is there without TensorFlow.
    from tensorflow import errors

    return (
        errors.AbortedError,
        errors.CancelledError,
        errors.DeadlineExceededError,
        errors.InternalError,
        errors.UnavailableError,
        # What Python functions of a graph raise, as those of `tfdp.transport`.
        errors.UnknownError,
    )


def _lost(error: Exception, cluster: Cluster) -> str:
    found = unreachable(cluster)
    for job, index in _TASK.findall(str(error)):
        addresses = cluster.jobs.get(job, ())
        if int(index) < len(addresses):
            address = addresses[int(index)]
            if address == cluster.address or address not in cluster.workers:
                continue
            worker = f"worker {cluster.workers.index(address)} ({address})"
            if worker not in found:
                found.append(worker)
    return ", ".join(found)


def _closing(error: Exception, cluster: Cluster) -> str:
    """Waits for the end of who has closed a connection of `tfdp.transport`.

    What a worker has beside it may end before its own port is free.
    """
    if "ConnectionError: " not in str(error):
        return ""
    deadline = time.monotonic() + _CLOSING_SECONDS
    while not (lost := _lost(error, cluster)) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return lost


@functools.cache
def exit_in_time() -> None:
    """Sees to it that this process ends 3 seconds after its last line.

    TensorFlow's own end sometimes waits for a lost worker for a minute.
    """
    null = open(os.devnull, "w")  # noqa: SIM115
    atexit.register(
        faulthandler.dump_traceback_later, _EXIT_SECONDS, exit=True, file=null
    )
