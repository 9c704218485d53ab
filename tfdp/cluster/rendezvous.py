"""The start of a job: every worker waits until it has seen all others.

TensorFlow itself waits for ever, and does not say for whom.
"""

import concurrent.futures
import contextlib
import datetime
import socket
import time

from tfdp.cluster.cluster import Cluster
from tfdp.machine import ports

_POLL_SECONDS = 0.2


def meet(cluster: Cluster, *, timeout: float) -> None:
    """Waits until every other worker of the cluster listens on its port.

    Meanwhile this worker listens on its own, so that the others see it.

    Args:
        cluster: Who the workers are; this process is one of them.
        timeout: Seconds to wait at most.

    Raises:
        TimeoutError: If some did not listen in time, with their addresses.
        RuntimeError: If this worker's port cannot be listened on.
    """
    cluster.check_port()
    peers = [a for a in cluster.workers if a != cluster.address]
    _, port = ports.split_address(cluster.address)
    begin = datetime.datetime.now()
    deadline = time.monotonic() + timeout
    # TensorFlow may listen already, for an earlier strategy of this process.
    listening = (
        contextlib.nullcontext()
        if port in ports.own_ports()
        else socket.create_server(("", port), backlog=max(128, 2 * len(peers)))
    )
    with (
        listening,
        concurrent.futures.ThreadPoolExecutor(max(1, len(peers))) as threads,
    ):
        found = list(threads.map(lambda peer: _listens(peer, deadline), peers))
    missing = [
        f"worker {cluster.workers.index(peer)} at {peer} ({why})"
        for peer, why in zip(peers, found, strict=True)
        if why is not None
    ]
    if missing:
        raise TimeoutError(
            f"Every worker must be there within {timeout:g} seconds of the "
            f"start. Received: no answer since {begin:%H:%M:%S} from "
            f"{', '.join(missing)}. Start it, correct its address in the "
            "cluster of every worker, or let them wait longer: "
            "`tfdp launch --start-timeout SECONDS`, or the variable "
            "TFDP_START_TIMEOUT."
        )


def unreachable(cluster: Cluster) -> list[str]:
    """Returns the other workers that do not listen now.

    Args:
        cluster: Who the workers are.

    Returns:
        A description of each: its index and address.
    """
    peers = [a for a in cluster.workers if a != cluster.address]
    if not peers:
        return []
    now = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(len(peers)) as threads:
        found = list(threads.map(lambda peer: _listens(peer, now), peers))
    return [
        f"worker {cluster.workers.index(peer)} ({peer})"
        for peer, why in zip(peers, found, strict=True)
        if why is not None
    ]


def _listens(address: str, deadline: float) -> str | None:
    place = ports.split_address(address)
    while True:
        try:
            left = max(deadline - time.monotonic(), 0.5)
            socket.create_connection(place, min(left, 5)).close()
            return None
        except OSError as error:
            why = error.strerror or str(error)
        if time.monotonic() + _POLL_SECONDS > deadline:
            return why
        time.sleep(_POLL_SECONDS)
