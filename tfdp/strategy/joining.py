"""How a worker joins the others: it meets them, then starts TensorFlow.

Both end at a deadline, and by a signal.
"""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator

import tensorflow as tf

from tfdp.board import State, own_board
from tfdp.cluster import (
    Cluster,
    exit_in_time,
    meet,
    unreachable,
    wait_for_leader,
)
from tfdp.groups import count_of
from tfdp.settings import is_asynchronous, start_timeout
from tfdp.upstream.tensorflow import tf_runtime, tf_start

# Larger ones gain nothing, and take twice the time in a worker without the
# settings of `tfdp.machine.allocator`, where each of them is new memory.
_BYTES_PER_CHUNK = 64 * 1024
_POLL_SECONDS = 0.05


def joined(
    cluster: Cluster, heartbeat_timeout: float
) -> tf.distribute.cluster_resolver.ClusterResolver:
    """Meets the other workers, and tells TensorFlow who they are.

    Args:
        cluster: Who the workers are; this process is one of them.
        heartbeat_timeout: Seconds without a sign of life after which a worker
            is given up.

    Returns:
        What TensorFlow's strategy is made with.

    Raises:
        RuntimeError: If TensorFlow has started already, this worker's port
            cannot be listened on, or the job is an asynchronous one.
        TimeoutError: If another worker is not there in time.
    """
    cluster.check_port()
    if cluster.num_workers > 1:
        check_synchronous()
        check_not_started()
        meet(cluster, timeout=start_timeout())
        tf_runtime.send_in_chunks(_BYTES_PER_CHUNK)
        tf_runtime.configure_heartbeat(
            {
                job: len(cluster.jobs[job])
                for job in ("chief", "worker")
                if cluster.jobs.get(job)
            },
            seconds=heartbeat_timeout,
        )
        with own_board().during(State.MEETING, "TensorFlow on the chief"):
            wait_for_leader(cluster)
    if cluster.visible_gpus is not None:
        gpus = tf.config.list_physical_devices("GPU")
        tf.config.set_visible_devices(
            [gpus[i] for i in cluster.visible_gpus], "GPU"
        )
    return tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({k: list(v) for k, v in cluster.jobs.items()}),
        task_type=cluster.task_type,
        task_id=cluster.task_index,
        rpc_layer=cluster.extra.get("rpc_layer", "grpc"),
        # Of a resolver that says nothing of them TensorFlow takes none.
        num_accelerators={"GPU": count_of("GPU")},
    )


def with_replicas(
    resolver: tf.distribute.cluster_resolver.ClusterResolver | None,
    gpus: int,
) -> tf.distribute.cluster_resolver.ClusterResolver:
    """Returns a resolver of the same cluster, with fewer GPUs.

    Args:
        resolver: Who the workers are; `None` where there is one.
        gpus: How many of its GPUs a worker has a replica on; the first ones.
    """
    tasks = resolver.cluster_spec() if resolver else None
    return tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec(tasks or {}),
        task_type=getattr(resolver, "task_type", None),
        task_id=getattr(resolver, "task_id", None),
        rpc_layer=getattr(resolver, "rpc_layer", None),
        num_accelerators={"GPU": gpus},
    )


def check_synchronous() -> None:
    """Checks that the workers of this job end together.

    Raises:
        RuntimeError: If they go on without each other: this strategy would
            wait for one that has fallen, and end with it.
    """
    if is_asynchronous():
        raise RuntimeError(
            "A strategy whose workers wait for each other is for workers that "
            "end together. Received: TFDP_ASYNCHRONOUS=1, as `tfdp launch "
            "--asynchronous` sets it. Use `tfdp.AsynchronousStrategy`, or "
            "start the job without --asynchronous."
        )


def check_not_started() -> None:
    """Checks that TensorFlow can still become one of several workers.

    Raises:
        RuntimeError: If it was used before.
    """
    if tf_runtime.has_started_alone():
        raise RuntimeError(
            "A strategy of several workers must be made before anything else "
            "of TensorFlow. Received: TensorFlow has started already, by a "
            "tensor, a variable, a model, a dataset, a random seed or a list "
            "of logical devices that was made before. Call "
            "`tfdp.auto_strategy()` first; imports, "
            "`keras.utils.set_random_seed` and NumPy may come before it."
        )


@contextlib.contextmanager
def endable_start(cluster: Cluster | None) -> Iterator[None]:
    """Has TensorFlow wait for the others no longer than is allowed.

    Signals that come meanwhile are handled as Python does it, SIGTERM too,
    which TensorFlow would take for itself.

    Args:
        cluster: Who the workers are, if that is known.

    Raises:
        TimeoutError: If they did not all start TensorFlow in time.
    """
    seconds = start_timeout()

    def wait(thread: threading.Thread) -> None:
        deadline = time.monotonic() + seconds
        handler = signal.getsignal(signal.SIGTERM)
        is_main = threading.current_thread() is threading.main_thread()
        try:
            while thread.is_alive():
                thread.join(_POLL_SECONDS)
                if is_main and handler is not None:
                    signal.signal(signal.SIGTERM, handler)
                if time.monotonic() > deadline and thread.is_alive():
                    raise _lateness(cluster, seconds)
        except BaseException:
            # What still waits keeps this process from its end.
            exit_in_time()
            raise

    with (
        own_board().during(State.MEETING, "TensorFlow to connect"),
        tf_start.endable_start(wait),
    ):
        yield


def _lateness(cluster: Cluster | None, seconds: float) -> TimeoutError:
    lost = unreachable(cluster) if cluster else []
    received = (
        f"{', '.join(lost)} no longer listening"
        if lost
        else "all of them listening, but not all have joined"
    )
    return TimeoutError(
        "TensorFlow must have started on every worker within "
        f"{seconds:g} seconds of their meeting. Received: {received}. A worker "
        "that has failed or hangs since says more in its own output. Start "
        "all of them again, or let them wait longer: `tfdp launch "
        "--start-timeout SECONDS`, or the variable TFDP_START_TIMEOUT."
    )
