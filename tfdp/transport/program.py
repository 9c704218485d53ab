"""The process in which gloo adds up gradients; started by `Courier`.

gloo waits for the other workers with Python's lock held. Here nobody else
wants it, and the worker can do anything meanwhile.
"""

import ctypes
import json
import mmap
import os
import signal
import sys
from multiprocessing.connection import Connection

from tfdp.transport.messages import DONE, REQUEST
from tfdp.upstream.gloo import Gloo

_DIE_WITH_PARENT = 1


def serve(
    worker: Connection,
    memory: int,
    *,
    rank: int,
    size: int,
    host: str,
    seconds: float,
) -> None:
    """Meets the other workers' programs, and does what the worker asks for.

    Args:
        worker: The connection to the worker.
        memory: What it shares, as the number of a file.
        rank: Place of the worker among all.
        size: How many there are.
        host: Where to listen.
        seconds: How long to wait for the others.

    Raises:
        EOFError: If the worker has ended.
        RuntimeError: If another worker has.
    """

    def exchange(name: str, address: bytes) -> dict[str, bytes]:
        worker.send_bytes(json.dumps([name, address.hex()]).encode())
        told = json.loads(worker.recv_bytes())
        return {name: bytes.fromhex(text) for name, text in told}

    gloo = Gloo(rank, size, host, exchange, seconds=seconds)
    worker.send_bytes(DONE)
    addresses: dict[int, tuple[int, object]] = {}
    while True:
        place, count = REQUEST.unpack(worker.recv_bytes())
        if place not in addresses:
            # Whole pages are mapped: room for all that ever lies there.
            region = mmap.mmap(memory, 4 * count, offset=place)
            own = ctypes.c_char.from_buffer(region)
            addresses[place] = ctypes.addressof(own), own
        gloo.add_up(addresses[place][0], count)
        worker.send_bytes(DONE)


def main() -> None:
    """Serves the worker that has started this process, until it ends."""
    told = json.loads(sys.argv[1])
    parent = told.pop("parent")
    if told.pop("dies_with_parent"):
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        return
    # They are meant for the worker, which ends this process when it is time.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    worker = Connection(told.pop("connection"))
    try:
        serve(worker, told.pop("memory"), **told)
    except EOFError:
        return
    except Exception as error:
        worker.send_bytes(f"{type(error).__name__}: {error}".encode())


if __name__ == "__main__":
    main()
