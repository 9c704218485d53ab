"""The largest batch that fits, agreed by all workers."""

import math
import socket
import zlib
from typing import Any

import keras
import tensorflow as tf

from tfdp.agreement import all_gather
from tfdp.checks import checked_count
from tfdp.machine import free_memory
from tfdp.memory.estimate import estimate
from tfdp.memory.per_replica import check_model, first_batch

_SHARE = 0.9
# By how much a batch grows at once, at most.
_STRIDE = 8


def find_batch(
    model: keras.Model,
    data: Any,
    *,
    memory_limit: int | None = None,
    most: int = 65_536,
) -> int:
    """Finds the largest per-replica batch that fits on every worker.

    As Lightning's tuner it tries larger batches until one does not fit, and
    then what lies between. But no step is run, so that nothing runs out of
    memory, which on a processor ends the process: what a batch takes is what
    `tfdp.estimate` says, and where to look next follows from it. All workers
    try the same sizes, and the one that has least memory for them decides.

    A collective: every worker calls it, before `fit`.

    Args:
        model: A compiled model, as `tfdp.estimate` takes it.
        data: Likewise.
        memory_limit: Bytes that each replica of this worker may take; may
            differ between workers. Defaults to `None`: 90 % of what its GPU
            has, or of an even share of what is free on the machine or in its
            container.
        most: The largest batch to try. Defaults to 65536.

    Returns:
        The batch, the same on all workers, for
        `BatchPlan(max_per_replica_batch=...)`.

    Raises:
        TypeError: If `model` is none, or a number is not an integer.
        ValueError: If a number is below 1, or as `tfdp.estimate` does.
        RuntimeError: On all workers, if not even one sample fits on one.

    Example:

    >>> with tfdp.auto_strategy().scope():
    ...     model = keras.Sequential(
    ...         [keras.Input((256,)), keras.layers.Dense(1024)]
    ...     )
    ...     model.compile(
    ...         tfdp.DistributedOptimizer(keras.optimizers.Adam()), "mse"
    ...     )
    >>> batch = tf.zeros((8, 256)), tf.zeros((8, 1024))
    >>> size = tfdp.find_batch(model, batch, memory_limit=2**25)
    >>> plan = tfdp.BatchPlan(
    ...     global_batch=8192, max_per_replica_batch=size, num_replicas=1
    ... )
    """
    most = checked_count("most", most)
    check_model(model)
    strategy = model.distribute_strategy
    usual = usual_limit(strategy)
    if memory_limit is None:
        memory_limit = usual
    limit = checked_count("memory_limit", memory_limit)
    batch = first_batch(data)

    def taken(size: int) -> float:
        """Returns the largest share of a worker's limit that a batch takes."""
        own = estimate(model, batch, per_replica_batch=size).total / limit
        if getattr(strategy, "num_workers", 1) == 1:
            return own
        return float(all_gather(strategy, [own]).max())

    good, below = 1, taken(1)
    if below > 1:
        raise RuntimeError(
            "At least one sample per replica must fit in the memory of every "
            f"worker. Received: memory_limit={limit:,} bytes here; one sample "
            f"takes {below:,.2f} times what the worker with least has. Give "
            "more, share out the optimizer's state by `tfdp.ShardedState()`, "
            "or train a smaller model."
        )
    bad, above = most + 1, math.inf
    before = 0, 0.0
    while bad - good > 1:
        last = before if math.isinf(above) else (bad, above)
        slope = (last[1] - below) / (last[0] - good)
        size = _STRIDE * good
        if slope > 0:
            size = min(size, good + math.floor((1 - below) / slope))
        size = min(max(size, good + 1), bad - 1)
        share = taken(size)
        if share > 1:
            bad, above = size, share
        else:
            before = good, below
            good, below = size, share
    return good


def usual_limit(strategy: Any) -> int:
    """Returns what a replica may take here: most of what there is.

    A collective, as workers of one machine share its memory.

    Args:
        strategy: The strategy of the model.
    """
    workers = getattr(strategy, "num_workers", 1)
    here = strategy.num_replicas_in_sync // workers
    if workers > 1:
        machine = zlib.crc32(socket.gethostname().encode())
        here *= int((all_gather(strategy, [machine]) == machine).sum())
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        if size := details.get("memory_size"):
            return int(_SHARE * size)
    return int(_SHARE * free_memory() / here)
