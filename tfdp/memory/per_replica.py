"""A batch as one replica sees it, and the graph of its step."""

from typing import Any

import keras
import tensorflow as tf


def first_batch(data: Any) -> Any:
    """Returns a batch as a step takes it.

    Args:
        data: A batch, or a `tf.data.Dataset` or `keras.utils.PyDataset`.

    Raises:
        ValueError: If there is none, or it is not made of dense tensors.
    """
    if isinstance(data, tf.data.Dataset):
        data = next(iter(data.take(1)), None)
    elif isinstance(data, keras.utils.PyDataset):
        data = data[0]
    leaves = [each for each in keras.tree.flatten(data) if each is not None]
    if not leaves or any(
        isinstance(each, (tf.SparseTensor, tf.RaggedTensor)) for each in leaves
    ):
        kinds = ", ".join(sorted({type(each).__name__ for each in leaves}))
        raise ValueError(
            "Memory is estimated of a batch of dense tensors. Received: "
            f"{kinds or 'nothing'}. Give a batch `(x, y)`, or a dataset of "
            "such, as `fit` takes it."
        )
    return keras.tree.map_structure(
        lambda each: None if each is None else tf.convert_to_tensor(each), data
    )


def rows(batch: Any) -> int:
    """Returns how many samples a batch has."""
    first = next(t for t in keras.tree.flatten(batch) if t is not None)
    return int(first.shape[0])


def specs(batch: Any, size: int) -> Any:
    """Returns what a batch of another size looks like."""

    def of(tensor: Any) -> Any:
        if tensor is None:
            return None
        return tf.TensorSpec([size, *tensor.shape[1:]], tensor.dtype)

    return keras.tree.map_structure(of, batch)


def graph_of_step(model: keras.Model, batch: Any, size: int) -> Any:
    """Returns the graph of a step that is not run.

    Args:
        model: A compiled model.
        batch: A batch, of any size.
        size: Samples that each replica is to see.
    """
    strategy = model.distribute_strategy
    if not model.optimizer.built:
        with strategy.scope():
            model.optimizer.build(model.trainable_variables)

    def step(data: Any) -> Any:
        return strategy.run(model.train_step, args=(data,))

    # It is shared out over the replicas of this process.
    here = strategy.num_replicas_in_sync // getattr(strategy, "num_workers", 1)
    traced = tf.function(step, autograph=False)
    return traced.get_concrete_function(specs(batch, here * size)).graph
