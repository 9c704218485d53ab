"""How much the replica at work weighs: by default, its samples.

A strategy's `run` knows how many samples a replica was given, and a loss knows
what it has divided by; the optimizer, called after both, needs it. They meet
here, in a slot of the thread that runs (or traces) the replica.
"""

import contextlib
import dataclasses
import threading
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from tfdp.step.division import divisions
from tfdp.upstream.keras import inspection

_slot = threading.local()


@dataclasses.dataclass(frozen=True)
class LossWeight:
    """How the gradient of a loss is averaged over replicas and micro-batches.

    Args:
        value: Scalar float32 tensor; the weight of this replica's gradient.
        adds: Whether gradients are added up instead of averaged.
        spans_micro_batch: Whether the loss is one of the whole micro-batch,
            so that those of several have no meaning together.
    """

    value: tf.Tensor
    adds: bool = False
    spans_micro_batch: bool = False


def first_time_in_step(who: Any) -> bool:
    """Whether this is asked for the first time in a replica's step.

    Args:
        who: For whom it is asked.
    """
    seen = vars(_slot).setdefault("seen", set())
    is_first = id(who) not in seen
    seen.add(id(who))
    return is_first


def local_samples() -> tf.Tensor | None:
    """Returns the number of samples given to this replica.

    Returns:
        Scalar float32 tensor, or `None` outside of a tfdp strategy's `run`.
    """
    return getattr(_slot, "samples", None)


def step_arguments() -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Returns what this replica's step was called with."""
    return _slot.arguments


def step_began() -> tf.Tensor | None:
    """Returns when this replica's step began.

    Returns:
        What `counted` was told; `None` where it was not.
    """
    return _slot.began


@contextlib.contextmanager
def counted(
    args: tuple[Any, ...],
    kwargs: dict[str, Any] | None = None,
    *,
    began: tf.Tensor | None = None,
) -> Iterator[None]:
    """Makes the samples of a step known while the block runs.

    Args:
        args: What the step is called with: tensors, dense, sparse or ragged,
            or structures of them, whose first axis is the batch. The first
            that has an axis is counted. Where none has, every replica counts
            as one sample, so that replicas weigh the same.
        kwargs: Likewise.
        began: When it began, if that is measured.
    """
    previous = dict(vars(_slot))
    _slot.arguments = args, kwargs or {}
    _slot.samples = tf.cast(_batch_size(_slot.arguments), tf.float32)
    _slot.began = began
    _slot.weights = []
    _slot.seen = set()
    try:
        yield
    finally:
        vars(_slot).clear()
        vars(_slot).update(previous)


@contextlib.contextmanager
def mixing_gradients() -> Iterator[None]:
    """Says that gradients of one replica's loss reach other replicas.

    As they do through the statistics of a synchronized `BatchNormalization`.
    """
    previous = gradients_mix()
    _slot.mixes = True
    try:
        yield
    finally:
        _slot.mixes = previous


def mix_gradients() -> None:
    """Says so for the rest of the step at hand."""
    _slot.mixes = True


def gradients_mix() -> bool:
    """Whether the gradient at hand holds parts of other replicas' losses."""
    return getattr(_slot, "mixes", False)


def span_micro_batch() -> None:
    """Says that the gradients to come are of the micro-batch as a whole."""
    _slot.spans_micro_batch = True


def gradient_weight() -> tf.Tensor:
    """Returns what the gradient at hand will be weighed by, so far as known.

    Returns:
        Scalar float32 tensor; 1 where gradients are added.
    """
    weights = _slot.weights or [LossWeight(_slot.samples)]
    return tf.ones([]) if weights[0].adds else weights[0].value


def weigh_by(weight: LossWeight) -> None:
    """Weighs the gradient to come by something else than samples.

    Args:
        weight: What a loss of this step has divided by.
    """
    _slot.weights.append(weight)


@contextlib.contextmanager
def training(model: Any) -> Iterator[None]:
    """Says whose step of training it is.

    Args:
        model: The model, a `keras.Model`.
    """
    previous = getattr(_slot, "model", None)
    _slot.model = model
    try:
        yield
    finally:
        _slot.model = previous


def weighed(loss: tf.Tensor, weight: LossWeight) -> tf.Tensor:
    """Weighs the gradient of a loss by something else than samples.

    Where it is not the only loss of a step, as beside what layers add, one
    weight does not serve the whole gradient. It is multiplied instead, so
    that weighing it by samples comes to the same.

    Args:
        loss: Scalar loss of this replica, to differentiate.
        weight: What it has divided by.

    Returns:
        The loss to differentiate.

    Raises:
        ValueError: If that is asked for while gradients accumulate, where
            the weight of the whole cycle is not known yet.
    """
    others = _other_losses(weight)
    if not others:
        weigh_by(weight)
        return loss
    if any(each.accumulation_steps > 1 for each in _optimizers()):
        raise ValueError(
            "While gradients accumulate, one weight must serve the whole "
            f"gradient of a step. Received: a DistributedLoss beside {others}. "
            "Use accumulation_steps=1, or losses that are means over samples."
        )
    context = tf.distribute.get_replica_context()
    samples, value = local_samples(), weight.value
    total, count = context.all_reduce(
        tf.distribute.ReduceOp.SUM,
        [tf.identity(samples), tf.identity(value)],
    )
    if weight.adds:
        count = tf.cast(context.num_replicas_in_sync, tf.float32)
    factor = tf.math.divide_no_nan(value * total, count * samples)
    return loss * tf.cast(factor, loss.dtype)


def _optimizers() -> list[Any]:
    return inspection.optimizers(_slot.model)


def _other_losses(weight: LossWeight) -> str | None:
    """Names what a step has beside a loss with a weight of its own."""
    model = getattr(_slot, "model", None)
    if model is None:
        return None
    if len(inspection.losses(model)) > 1:
        return "other losses"
    if inspection.adds_losses(model):
        return "what layers have added by `add_loss` or activity regularizers"
    if weight.adds and model.losses:
        return "regularizers of weights"
    return None


def taken_weight() -> LossWeight | None:
    """Returns the weight of the gradient at hand, and forgets it.

    Returns:
        What a loss said by `weigh_by`, otherwise the samples; `None` outside
        of a tfdp strategy's `run`.

    Raises:
        ValueError: If losses of one step have divided by different things.
    """
    samples = local_samples()
    if samples is None:
        return None
    noted = divisions()
    if noted is not None:
        noted.updates = True
    weights, _slot.weights = _slot.weights, []
    if len(weights) > 1:
        raise ValueError(
            "One weight must serve the whole gradient of a step. Received: "
            f"{len(weights)} losses, each of which is averaged over something "
            "of its own, such as its mask. Use one such loss per step, or "
            "losses that are means over samples."
        )
    weight = weights[0] if weights else LossWeight(samples)
    if getattr(_slot, "spans_micro_batch", False):
        return dataclasses.replace(weight, spans_micro_batch=True)
    return weight


def evening_factor() -> tf.Tensor | None:
    """Weighs a loss before its gradient is taken, where gradients mix.

    Afterwards, a replica's gradient holds parts of the others' losses, which
    its own weight would not fit.

    Returns:
        What to multiply the loss at hand with, so that all replicas weigh
        alike from now on; `None` where gradients do not mix.
    """
    weight = taken_weight() if gradients_mix() else None
    if weight is None:
        return None
    if weight.adds:
        weigh_by(weight)
        return None
    context = tf.distribute.get_replica_context()
    mean = context.all_reduce(tf.distribute.ReduceOp.MEAN, weight.value)
    weigh_by(dataclasses.replace(weight, value=mean))
    return tf.math.divide_no_nan(weight.value, mean)


class SampleCounter:
    """Counts the samples that each replica has trained on.

    Args:
        strategy: The strategy whose replicas count. Create the counter in
            its scope.

    Attributes:
        variable: Scalar int64; the count, on each replica its own.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self._strategy = strategy
        with tf.init_scope():
            self.variable = tf.Variable(
                0,
                dtype=tf.int64,
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.SUM,
            )

    def add(self, samples: tf.Tensor) -> None:
        """Adds the samples of this replica, in replica context."""
        self.variable.assign_add(tf.cast(samples, tf.int64))

    def by_replica(self) -> list[int]:
        """Returns the counts of this worker's replicas, in their order.

        Reads this worker's memory only; the workers need not meet.
        """
        counts = self._strategy.experimental_local_results(self.variable)
        return [int(count.numpy()) for count in counts]


def batch_size(tensor: Any) -> tf.Tensor:
    """Returns the size of the first axis of a tensor.

    Args:
        tensor: Dense, sparse or ragged, with an axis.
    """
    if isinstance(tensor, tf.RaggedTensor):
        return tensor.nrows()
    if isinstance(tensor, tf.SparseTensor):
        return tensor.dense_shape[0]
    return tf.shape(tensor)[0]


def _batch_size(data: Any) -> tf.Tensor | int:
    for leaf in tf.nest.flatten(data):
        is_composite = isinstance(leaf, (tf.RaggedTensor, tf.SparseTensor))
        if is_composite or (tf.is_tensor(leaf) and leaf.shape.rank != 0):
            return batch_size(leaf)
    return 1
