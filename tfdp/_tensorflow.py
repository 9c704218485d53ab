"""The only doorway to private names of TensorFlow.

`tests/test_contracts.py` says which of them moved.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.autograph.core import ag_ctx as _ag_ctx
from tensorflow.python.distribute.collective_all_reduce_strategy import (
    coordination_config_pb2 as _coordination_config,
)
from tensorflow.python.distribute.input_lib import (
    DistributedDataset as DistributedDataset,
)
from tensorflow.python.eager import context as _context
from tensorflow.python.eager.polymorphic_function.polymorphic_function import (
    Function as _Function,
)


def is_tf_function(fn: Callable[..., Any]) -> bool:
    """Whether `fn` was made by `tf.function`."""
    return isinstance(fn, _Function)


def wrapped_inside(
    function: Any, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> Any:
    """Returns a copy of a `tf.function` that traces its function wrapped.

    `Strategy.run` treats a `tf.function` in a way of its own, and the public
    API offers no way to read its options, which the copy keeps.
    """
    inside = function.python_function
    if function._autograph:
        enabled = _ag_ctx.ControlStatusCtx(_ag_ctx.Status.ENABLED)
        inside = tf.__internal__.autograph.tf_convert(inside, enabled)
    wrapped = wrap(inside)
    clone = function._clone(python_function=wrapped)
    return tf.__internal__.decorator.make_decorator(wrapped, clone)


def converted_by_autograph(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `fn` as `Strategy.run` would convert it at this call."""
    autograph = tf.__internal__.autograph
    return autograph.tf_convert(
        fn, autograph.control_status_ctx(), convert_by_default=False
    )


def global_seed() -> int | None:
    """Returns the seed set by `tf.random.set_seed`, or `None`."""
    return _context.global_seed()


def num_workers(strategy: tf.distribute.MultiWorkerMirroredStrategy) -> int:
    """Returns the number of worker processes of the strategy."""
    return strategy.extended._num_workers


def worker_index(strategy: tf.distribute.MultiWorkerMirroredStrategy) -> int:
    """Returns the place of this process among the strategy's workers."""
    return strategy.extended._id_in_cluster


def shuffle_seeds(dataset: tf.data.Dataset) -> list[int]:
    """Returns the seeds of every shuffling in a dataset's pipeline.

    Two datasets of equal construction whose lists differ are shuffled
    differently.
    """
    own = (getattr(dataset, name, None) for name in ("_seed", "_seed2"))
    seeds = [int(seed.numpy()) for seed in own if isinstance(seed, tf.Tensor)]
    for wrapper in dataset._functions():
        seeds += _seeds_in_graph(wrapper.function.graph.as_graph_def())
    for source in dataset._inputs():
        seeds += shuffle_seeds(source)
    return seeds


def source_datasets(dataset: tf.data.Dataset) -> list[tf.data.Dataset]:
    """Returns the datasets that a pipeline begins with."""
    inputs = dataset._inputs()
    return [s for i in inputs for s in source_datasets(i)] or [dataset]


def _seeds_in_graph(graph: tf.compat.v1.GraphDef) -> list[int]:
    seeds = []
    for nodes in (graph.node, *(f.node_def for f in graph.library.function)):
        by_name = {node.name: node for node in nodes}
        for node in nodes:
            if "Shuffle" in node.op:
                seeds += [
                    node.attr[name].i
                    for name in ("seed", "seed2")
                    if name in node.attr
                ]
                seeds += _integers_behind(node, by_name)
    return seeds


def _integers_behind(node: Any, by_name: dict[str, Any]) -> list[int]:
    # A seed that a dataset was given goes through a few operations before it
    # reaches the shuffling.
    integers, seen, left = [], set(), list(node.input)
    while left:
        name = left.pop().removeprefix("^").partition(":")[0]
        if name in seen or name not in by_name:
            continue
        seen.add(name)
        source = by_name[name]
        if source.op == "Equal":
            # Whether a seed is zero, which is no seed of its own.
            continue
        left += source.input
        value = source.attr["value"].tensor
        if source.op == "Const" and value.dtype == tf.int64.as_datatype_enum:
            integers += [int(i) for i in tf.make_ndarray(value).flat]
    return integers


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
