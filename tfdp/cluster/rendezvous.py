"""The start of a job: every worker waits until it has met all others.

TensorFlow itself waits for ever, and does not say for whom; and it takes who
ever listens at a worker's address for that worker.
"""

import concurrent.futures
import contextlib
import datetime
import socket
import time

from tfdp.board import State, own_board
from tfdp.cluster.cluster import Cluster
from tfdp.cluster.connections import run_in_thread
from tfdp.cluster.meeting import Meeting
from tfdp.machine import listening, ports

_POLL_SECONDS = 0.2
_LEADER_POLL_SECONDS, _LEADER_SECONDS = 0.01, 0.25


def meet(cluster: Cluster, *, timeout: float) -> None:
    """Waits until this worker and every other one have found each other.

    Meanwhile it listens on its own port, on loopback alone where all workers
    are there, and answers to those who ask. Each proves that it is the worker
    it should be, of this job (see `tfdp.cluster.identity`).

    Args:
        cluster: Who the workers are; this process is one of them.
        timeout: Seconds to wait at most.

    Raises:
        TimeoutError: If some were not met in time, with their addresses, and
            what was found there.
        RuntimeError: If this worker's port cannot be listened on.
    """
    cluster.check_port()
    begin = datetime.datetime.now()
    deadline = time.monotonic() + timeout
    _, port = ports.split_address(cluster.address)
    if port in ports.own_ports():
        # TensorFlow listens, for an earlier strategy of this process: these
        # workers have met.
        missing = _deaf(cluster, deadline)
    else:
        meeting = Meeting(cluster)
        servers = listening.listeners(
            cluster.address,
            is_local=cluster.is_local,
            backlog=max(128, 2 * cluster.num_workers),
        )
        with own_board().during(State.MEETING, "the other workers"):
            run_in_thread(meeting.hold(servers, deadline))
        missing = meeting.missing
    if missing:
        told = [
            f"worker {index} at {cluster.workers[index]} ({why})"
            for index, why in sorted(missing.items())
        ]
        raise TimeoutError(
            f"Every worker must be there within {timeout:g} seconds of the "
            f"start. Received: no answer since {begin:%H:%M:%S} from "
            f"{', '.join(told)}. Start it, correct its address in the "
            "cluster of every worker, or let them wait longer: "
            "`tfdp launch --start-timeout SECONDS`, or the variable "
            "TFDP_START_TIMEOUT."
        )


def wait_for_leader(cluster: Cluster, *, seconds: float = 2.0) -> None:
    """Waits until TensorFlow listens where all connect to, or for a while.

    Who tries before that tries again after a second. Nobody who listens for
    a meeting says anything unasked, as TensorFlow does.

    Args:
        cluster: Who the workers are, which have met.
        seconds: For how long. Defaults to 2.
    """
    leader = cluster.workers[0]
    if leader == cluster.address:
        return
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        with contextlib.suppress(OSError):
            place = ports.split_address(leader)
            with socket.create_connection(place, left) as connection:
                connection.settimeout(min(left, _LEADER_SECONDS))
                if connection.recv(1):
                    return
        time.sleep(_LEADER_POLL_SECONDS)


def unreachable(cluster: Cluster) -> list[str]:
    """Returns the other workers that do not listen now.

    Args:
        cluster: Who the workers are.

    Returns:
        A description of each: its index and address.
    """
    return [
        f"worker {index} ({cluster.workers[index]})"
        for index in _deaf(cluster, time.monotonic())
    ]


def _deaf(cluster: Cluster, deadline: float) -> dict[int, str]:
    """Returns why others do not listen, by index, once the time is over."""
    peers = cluster.peers
    if not peers:
        return {}
    with concurrent.futures.ThreadPoolExecutor(len(peers)) as threads:
        found = threads.map(lambda a: _listens(a, deadline), peers.values())
        return {
            peer: why
            for peer, why in zip(peers, found, strict=True)
            if why is not None
        }


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
