"""TensorFlow's runtime: seeds, workers, and the service between them.

A doorway to private names of TensorFlow, each of which has a contract in
`tests/upstream/test_tf_runtime.py`.
"""

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from tfdp.upstream.private import Member, Name, optional

_WORKERS = "MultiWorkerMirroredStrategy does not know its workers"
_LOST = "a lost worker would be noticed after minutes, not seconds"
_CHUNKS = "gradients are sent in chunks of 4 KiB"
_EARLY = "a tensor made too early is told of in TensorFlow's words alone"
# TensorFlow's strategies do not come so far.
_GROUPS_OF_ONE = 2**30
_context = Name("tensorflow.python.eager.context.context", serves=_LOST)
_global_seed = Name(
    "tensorflow.python.eager.context.global_seed",
    serves="workers cannot agree on the seed that `tf.random.set_seed` set",
)
_coordinated_job = Name(
    "tensorflow.python.distribute.collective_all_reduce_strategy."
    "coordination_config_pb2.CoordinatedJob",
    serves=_LOST,
)
_num_workers = Member("_num_workers", serves=_WORKERS)
_id_in_cluster = Member("_id_in_cluster", serves=_WORKERS)
_service = Member("coordination_service", serves=_LOST)
_configure_service = Member("configure_coordination_service", serves=_LOST)
_handle = Member("_context_handle", serves=_EARLY)
_leader = Member("_collective_leader", serves=_EARLY)
_config = Member("_config", serves=_CHUNKS)
_uses_onednn = Name(
    "tensorflow.python.util._pywrap_util_port.IsMklEnabled",
    serves="nobody is told of slow kernels on the CPU",
)
_wait_at_barrier = Member(
    "wait_at_barrier", serves="a strategy would not wait for its workers"
)


def global_seed() -> int | None:
    """Returns the seed set by `tf.random.set_seed`, or `None`."""
    return _global_seed.find()()


def uses_onednn() -> bool | None:
    """Whether TensorFlow computes with oneDNN's kernels on the CPU.

    `None` where this TensorFlow does not say.
    """
    with optional():
        return bool(_uses_onednn.find()())
    return None


def num_workers(strategy: tf.distribute.MultiWorkerMirroredStrategy) -> int:
    """Returns the number of worker processes of the strategy."""
    return _num_workers.of(strategy.extended)


def worker_index(strategy: tf.distribute.MultiWorkerMirroredStrategy) -> int:
    """Returns the place of this process among the strategy's workers."""
    return _id_in_cluster.of(strategy.extended)


@contextlib.contextmanager
def making_variables_alone(
    strategy: tf.distribute.MultiWorkerMirroredStrategy,
) -> Iterator[None]:
    """Has the strategy make variables without the chief's initial values.

    For those that every worker makes alike: each of the others waits for all
    workers.
    """
    workers = num_workers(strategy)
    _num_workers.replace(strategy.extended, 1)
    try:
        yield
    finally:
        _num_workers.replace(strategy.extended, workers)


def configure_heartbeat(jobs: dict[str, int], *, seconds: float) -> None:
    """Has workers notice within `seconds` that one of them is gone.

    Must be called before TensorFlow starts, and does nothing where the
    coordination service was configured already.

    Args:
        jobs: Number of tasks by name of the job; the leader is the first task
            of the first.
        seconds: Time without a sign of life after which a task is given up.
    """
    with optional():
        context = _context.find()()
        if _service.of(context) is not None:
            return
        job_of = _coordinated_job.find()
        _configure_service.of(context)(
            service_type="standalone",
            service_leader=f"/job:{next(iter(jobs))}/replica:0/task:0",
            heartbeat_timeout_in_ms=round(1000 * seconds),
            coordinated_jobs=[
                job_of(name=name, num_tasks=count)
                for name, count in jobs.items()
            ],
        )


def has_started_alone() -> bool:
    """Whether TensorFlow has started, and not as one of several workers.

    It starts with the first tensor, variable or list of logical devices.
    """
    with optional():
        own = _context.find()()
        return not _leader.of(own) and _handle.of(own) is not None
    return False


def send_in_chunks(size: int) -> None:
    """Has collectives send buffers in chunks of `size` bytes, instead of 4 KiB.

    Each chunk is allocated and copied by itself. Must be called before
    TensorFlow starts; a size that the program has chosen is kept.
    """
    with optional():
        own = _context.find()()
        config = tf.compat.v1.ConfigProto()
        chosen = _config.of(own)
        if chosen is not None:
            config.CopyFrom(chosen)
        if not config.experimental.recv_buf_max_chunk:
            config.experimental.recv_buf_max_chunk = size
            _config.replace(own, config)


def wait_for_all_tasks(name: str, *, seconds: float) -> None:
    """Waits until every task of the cluster is here, by TensorFlow's service.

    Args:
        name: The same on every task, and used once.
        seconds: Time to wait at most.
    """
    _wait_at_barrier.of(_context.find()())(name, round(1000 * seconds))


def check_collectives(worker: int) -> None:
    """Checks that collectives are possible, which end with a lost worker.

    Args:
        worker: Index of this worker.

    Raises:
        tf.errors.OpError: What those say that are under way.
    """
    with tf.device("CPU:0"):
        tf.raw_ops.CollectiveReduceV2(
            input=tf.constant(0.0),
            group_size=1,
            group_key=_GROUPS_OF_ONE + worker,
            instance_key=1,
            ordering_token=[],
            merge_op="Add",
            final_op="Id",
        )
