"""Two workers of a library, each on a core of its own."""

import pathlib
import sys

from harness.turns import Player
from peers import python_of

from tfdp.cluster.cluster import Cluster
from tfdp.cluster.nodes import free_addresses
from tfdp.launching.worker_settings import WHERE_UNSET
from tfdp.machine.cores import core_shares, thread_variables

BENCHMARKS = pathlib.Path(__file__).parents[1]


def pair(library, arguments, kind=Player, communication="tensorflow"):
    """Starts two workers that take turns together.

    Args:
        library: `"tfdp"`, `"tf_keras"`, `"torch"` or `"jax"`.
        arguments: What `keras_worker.py`, after the library, or that of
            another library is given.
        kind: What makes a `Player` of them.
        communication: What gradients of tfdp's travel by.
    """
    addresses = free_addresses(2)
    threads = thread_variables(1)
    if library in ("torch", "jax"):
        command = [python_of(library), BENCHMARKS / f"{library}_worker.py"]
        host, port = addresses[0].split(":")
        names = {"MASTER_ADDR": host, "MASTER_PORT": port, "WORLD_SIZE": "2"}
        own = [{"RANK": str(index), **names} for index in range(2)]
    else:
        python = sys.executable if library == "tfdp" else python_of(library)
        command = [python, BENCHMARKS / "keras_worker.py", library]
        own = [
            {"TF_CONFIG": Cluster.of(addresses, index).to_tf_config()}
            for index in range(2)
        ]
    if library == "tfdp":
        # As `tfdp launch` starts its workers.
        by = {"TFDP_COMMUNICATION": communication}
        threads = {**WHERE_UNSET, **threads, **by}
    return kind(
        [*command, *arguments],
        [{**threads, **variables} for variables in own],
        core_shares(2, 1),
    )
