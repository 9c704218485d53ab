"""The rows of all replicas together, for what compares samples."""

from typing import Any

import tensorflow as tf

from tfdp.step.samples import (
    gradient_weight,
    local_samples,
    mix_gradients,
    span_micro_batch,
)


def gather(tensor: Any) -> tf.Tensor:
    """Puts the rows of all replicas together, where samples are compared.

    In a `train_step`, loss or layer that looks at the batch as a whole, such
    as one with in-batch negatives, every replica then has the rows of all:

        z = tfdp.gather(self.encoder(x))
        loss = contrastive(z)

    Gradients flow back to all replicas, so that the loss is trained on as on
    one device: what counts is the mean of the replicas' losses, weighed by
    their samples. That mean is the loss of the micro-batch if each computes
    it on all gathered rows, and also if each computes it for its own rows
    against all. A replica without samples adds no rows.

    On one replica, and outside of a step, the tensor is returned as it is.

    Args:
        tensor: Dense tensor whose first axis is the batch, of the same other
            axes and dtype on all replicas; floats, integers or booleans. The
            number of rows may differ between replicas.

    Returns:
        Tensor of the rows of all replicas, in the order of the replicas,
        which is that of the micro-batch. Two views of a batch are gathered
        one after the other, not as one tensor.

    Raises:
        TypeError: If it is sparse, ragged, of strings, or has no axis.
        RuntimeError: Under a strategy of several replicas that is not one of
            tfdp's.
        ValueError: By `tfdp.DistributedOptimizer`, if it accumulates: there is
            no telling what samples of different micro-batches make of each
            other.

    Example:

    >>> tfdp.gather([[1.0], [2.0]]).numpy().tolist()
    [[1.0], [2.0]]
    """
    if isinstance(tensor, (tf.SparseTensor, tf.RaggedTensor)):
        raise TypeError(
            "`gather` takes dense tensors. Received: "
            f"{type(tensor).__name__}. Gather what a layer makes of it, or "
            "convert it: `tensor.to_dense()`, `tensor.to_tensor()`."
        )
    tensor = tf.convert_to_tensor(tensor)
    if tensor.shape.rank == 0 or tensor.dtype == tf.string:
        raise TypeError(
            "`gather` puts rows of numbers together. Received: a tensor of "
            f"shape {tensor.shape} and dtype {tensor.dtype.name}. Pass one "
            "whose first axis is the batch."
        )
    samples = local_samples()
    if samples is not None:
        mix_gradients()
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return tensor
    if samples is None:
        raise RuntimeError(
            "`gather` needs a strategy that counts samples. Received: "
            f"{type(context.strategy).__name__}. Use a tfdp strategy, such as "
            "`tfdp.auto_strategy()`."
        )
    own = _own_rows(tensor, samples)
    return _gathered(tensor, own, _start(own))


def rows_of_all(structure: Any) -> tuple[Any, tf.Tensor]:
    """Puts the rows of all replicas together, for what takes no gradient.

    Args:
        structure: Dense tensors of the same number of rows, nested; `None`
            stays `None`.

    Returns:
        The same structure, of all replicas' rows; and whether this replica is
        the first that has any.
    """
    leaves = [x for x in tf.nest.flatten(structure) if x is not None]
    own = _own_rows(tf.convert_to_tensor(leaves[0]), local_samples())
    start = _start(own)
    gathered = tf.nest.map_structure(
        lambda x: (
            None
            if x is None
            else _gathered(
                tf.stop_gradient(tf.convert_to_tensor(x)), own, start
            )
        ),
        structure,
    )
    return gathered, tf.logical_and(tf.equal(start, 0), own > 0)


def _own_rows(tensor: tf.Tensor, samples: tf.Tensor) -> tf.Tensor:
    # Without the row that is made up where there is none.
    return tf.where(samples > 0, tf.shape(tensor)[0], 0)


def _start(own: tf.Tensor) -> tf.Tensor:
    """Returns how many rows the replicas before this one have."""
    context = tf.distribute.get_replica_context()
    sizes = context.all_gather(own[tf.newaxis], axis=0)
    return tf.reduce_sum(sizes[: context.replica_id_in_sync_group])


def _gathered(tensor: tf.Tensor, own: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    if tensor.dtype == tf.bool:
        numbers = tf.cast(tensor, tf.uint8)
        return tf.cast(_gathered(numbers, own, start), tf.bool)
    context = tf.distribute.get_replica_context()

    @tf.custom_gradient
    def gathered(rows: tf.Tensor) -> Any:
        def backward(upstream: tf.Tensor) -> tf.Tensor:
            span_micro_batch()
            # The optimizer will weigh what arrives here by the own weight.
            weight = tf.cast(gradient_weight(), upstream.dtype)
            weighed = tf.convert_to_tensor(upstream) * weight
            everyones = context.all_reduce(tf.distribute.ReduceOp.SUM, weighed)
            own_rows = everyones[start : start + own]
            return tf.math.divide_no_nan(own_rows, weight)

        return context.all_gather(rows, axis=0), backward

    everyones = gathered(tensor[:own])
    everyones.set_shape([None, *tensor.shape[1:]])
    return everyones
