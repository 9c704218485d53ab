"""What a step takes of memory, part by part."""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

from tfdp.checks import checked_count
from tfdp.memory.liveness import Held, Liveness
from tfdp.memory.per_replica import (
    check_model,
    first_batch,
    graph_of_step,
    rows,
)

# What an allocator cannot use of what comes and goes.
_LOSS = 0.08
_PACKS = ("Collective", "Nccl")
_PARTS = {
    "weights": "weights",
    "optimizer_state": "optimizer state",
    "accumulators": "accumulators",
    "gradients": "gradients",
    "packs": "packs",
    "activations": "activations",
    "workspace": "workspace",
    "allocator": "allocator",
}


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Bytes of one replica, at the moment at which it needs most.

    Attributes:
        per_replica_batch: Samples that it sees at a time.
        weights: Those of the model, trained or not.
        optimizer_state: Slots, as momenta, that it keeps.
        accumulators: Sums of gradients that wait for the end of a cycle.
        gradients: Tensors of the shapes of weights: gradients, and what the
            update makes of them.
        packs: What travels between replicas.
        activations: All other tensors, those kept for the backward pass
            among them.
        workspace: What kernels need beside their results.
        allocator: What is lost between pieces of memory.

    Example:

    >>> found = Estimate(32, weights=4096, activations=8192)
    >>> found.total, found.largest
    (12288, 'activations')
    """

    per_replica_batch: int
    weights: int = 0
    optimizer_state: int = 0
    accumulators: int = 0
    gradients: int = 0
    packs: int = 0
    activations: int = 0
    workspace: int = 0
    allocator: int = 0

    @property
    def parts(self) -> dict[str, int]:
        """Bytes by name of the part."""
        return {name: getattr(self, key) for key, name in _PARTS.items()}

    @property
    def total(self) -> int:
        """Bytes at that moment."""
        return sum(self.parts.values())

    @property
    def largest(self) -> str:
        """The name of the largest part."""
        return max(self.parts, key=lambda name: self.parts[name])

    def __str__(self) -> str:
        lines = [f"  {'MiB':>9}  share"]
        for name, size in self.parts.items():
            share = size / self.total if self.total else 0.0
            lines.append(f"  {size / 2**20:9,.1f}  {share:5.0%}  {name}")
        lines.append(
            f"  {self.total / 2**20:9,.1f}  100%  in all, at "
            f"{self.per_replica_batch:,} samples per replica; the largest part "
            f"is {self.largest}"
        )
        return "\n".join(lines)


def estimate(
    model: keras.Model, data: Any, *, per_replica_batch: int | None = None
) -> Estimate:
    """Estimates the memory of a replica in training, without training.

    The step is made into a graph, forward, backward and update, and that is
    carried out on paper: a tensor is in use from when it is made until nothing
    needs it any more. So activations are what the backward pass really waits
    for, not outputs of layers. It knows the optimizer, accumulation,
    `compression` and `synchronization` that the model is compiled with, on the
    replicas of its strategy. No worker waits for another.

    It counts what TensorFlow's allocator hands out. A process takes some
    hundred MiB more, before it does anything, and the data that is read ahead.

    Args:
        model: A compiled model, built by its `Input` or by a call.
        data: A batch `(x, y)` or `(x, y, sample_weight)`, or a dataset of
            such: what `fit` is given.
        per_replica_batch: Samples that each replica is to see. Defaults to
            `None`: an even share of the batch.

    Returns:
        The estimate; `print` shows a table.

    Raises:
        TypeError: If `model` is none, or `per_replica_batch` not an integer.
        ValueError: If it is below 1, `model` is not built and compiled, or
            `data` has no batch of dense tensors that it can be trained on.

    Example:

    >>> with tfdp.auto_strategy().scope():
    ...     model = keras.Sequential(
    ...         [keras.Input((256,)), keras.layers.Dense(1024)]
    ...     )
    ...     model.compile(
    ...         tfdp.DistributedOptimizer(keras.optimizers.Adam()), "mse"
    ...     )
    >>> batch = tf.zeros((8, 256)), tf.zeros((8, 1024))
    >>> found = tfdp.estimate(model, batch)
    >>> found.weights, found.optimizer_state
    (1052672, 2105344)
    """
    check_model(model)
    batch = first_batch(data)
    strategy = model.distribute_strategy
    replicas = strategy.num_replicas_in_sync
    if per_replica_batch is None:
        per_replica_batch = math.ceil(rows(batch) / replicas)
    size = checked_count("per_replica_batch", per_replica_batch)
    graph = graph_of_step(model, batch, size)
    here = replicas // getattr(strategy, "num_workers", 1)
    is_on_gpu = bool(tf.config.list_logical_devices("GPU"))
    peak = Liveness(graph, at_once=here if is_on_gpu else 2 * here).peak()
    trained = {tuple(each.shape) for each in model.trainable_variables}
    held: Counter[str] = Counter()
    for each in peak.held:
        held[_part(each, trained)] += each.bytes
    optimizer: Any = model.optimizer
    sums = getattr(optimizer, "accumulation_steps", 1) > 1
    kept = getattr(optimizer, "state_bytes", None)
    return Estimate(
        size,
        weights=_bytes(model.variables),
        optimizer_state=max(kept()) if kept else _bytes(optimizer.variables),
        accumulators=sums * _sums(model.trainable_variables),
        **held,
        allocator=round(_LOSS * peak.bytes),
    )


def _part(held: Held, trained: set[Any]) -> str:
    if not held.kind:
        return "workspace"
    is_packed = held.kind == "ConcatV2" and len(held.shape) == 1
    if is_packed or held.kind.startswith(_PACKS):
        return "packs"
    return "gradients" if held.shape in trained else "activations"


def _bytes(variables: Iterable[Any]) -> int:
    return sum(
        math.prod(v.shape) * tf.as_dtype(v.dtype).size for v in variables
    )


def _sums(variables: Iterable[Any]) -> int:
    # In float32 for those of fewer digits.
    return sum(
        math.prod(v.shape) * max(tf.as_dtype(v.dtype).size, 4)
        for v in variables
    )
