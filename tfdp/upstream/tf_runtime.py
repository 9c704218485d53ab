"""TensorFlow's runtime: seeds, workers, and the service between them.

A doorway to private names of TensorFlow, each of which has a contract in
`tests/upstream/test_tf_runtime.py`.
"""

import tensorflow as tf
from tensorflow.python.distribute.collective_all_reduce_strategy import (
    coordination_config_pb2 as _coordination_config,
)
from tensorflow.python.distribute.input_lib import (
    DistributedDataset as DistributedDataset,
)
from tensorflow.python.eager import context as _context


def global_seed() -> int | None:
    """Returns the seed set by `tf.random.set_seed`, or `None`."""
    return _context.global_seed()


def num_workers(strategy: tf.distribute.MultiWorkerMirroredStrategy) -> int:
    """Returns the number of worker processes of the strategy."""
    return strategy.extended._num_workers


def worker_index(strategy: tf.distribute.MultiWorkerMirroredStrategy) -> int:
    """Returns the place of this process among the strategy's workers."""
    return strategy.extended._id_in_cluster


def configure_heartbeat(jobs: dict[str, int], *, seconds: float) -> None:
    """Has workers notice within `seconds` that one of them is gone.

    Must be called before TensorFlow starts, and does nothing where the
    coordination service was configured already.

    Args:
        jobs: Number of tasks by name of the job; the leader is the first task
            of the first.
        seconds: Time without a sign of life after which a task is given up.
    """
    if _context.context().coordination_service is None:
        _context.context().configure_coordination_service(
            service_type="standalone",
            service_leader=f"/job:{next(iter(jobs))}/replica:0/task:0",
            heartbeat_timeout_in_ms=round(1000 * seconds),
            coordinated_jobs=[
                _coordination_config.CoordinatedJob(name=name, num_tasks=count)
                for name, count in jobs.items()
            ],
        )


def send_in_chunks(size: int) -> None:
    """Has collectives send buffers in chunks of `size` bytes, instead of 4 KiB.

    Each chunk is allocated and copied by itself. Must be called before
    TensorFlow starts; a size that the program has chosen is kept.
    """
    own = _context.context()
    config = tf.compat.v1.ConfigProto()
    if own._config is not None:
        config.CopyFrom(own._config)
    if not config.experimental.recv_buf_max_chunk:
        config.experimental.recv_buf_max_chunk = size
        own._config = config


def wait_for_all_tasks(name: str, *, seconds: float) -> None:
    """Waits until every task of the cluster is here, by TensorFlow's service.

    Args:
        name: The same on every task, and used once.
        seconds: Time to wait at most.
    """
    _context.context().wait_at_barrier(name, round(1000 * seconds))
