"""A batch as one replica sees it, and the graph of its step."""

from typing import Any

import keras
import tensorflow as tf


def first_batch(data: Any) -> Any:
    """Returns a batch as a step takes it.

    Args:
        data: A batch, or a `tf.data.Dataset` or `keras.utils.PyDataset`.

    Raises:
        ValueError: If there is none, it is not made of dense tensors, or one of
            them has no axis.
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
    batch = keras.tree.map_structure(
        lambda each: None if each is None else tf.convert_to_tensor(each), data
    )
    shapes = _shapes(batch)
    if any(not shape for shape in shapes):
        raise ValueError(
            "Memory is estimated of a batch, whose first axis is that of its "
            f"samples. Received: shapes {shapes}. Call `batch` on the dataset."
        )
    return batch


def check_model(model: Any) -> None:
    """Refuses what is no model, or one whose step is not known yet.

    Args:
        model: What was given.

    Raises:
        TypeError: If it is no `keras.Model`.
        ValueError: If it is not built and compiled.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            "Memory is estimated of a `keras.Model`. Received: "
            f"model={model!r} (of type {type(model).__name__})."
        )
    if not model.built or not model.compiled:
        raise ValueError(
            "Memory is estimated of a model that is built and compiled. "
            f"Received: {model.name}, built={model.built}, compiled="
            f"{model.compiled}. Begin it with a `keras.Input`, or call it on "
            "a batch, and compile it."
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

    Raises:
        ValueError: If the model's step cannot be made of such a batch.
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
    try:
        return traced.get_concrete_function(specs(batch, here * size)).graph
    except (ValueError, TypeError) as error:
        if "Received:" in str(error):
            raise
        raise ValueError(
            "Memory is estimated of a batch that the model can be trained on. "
            f"Received: shapes {_shapes(batch)}, of which its step says: "
            f"{error}\nGive a batch `(x, y)`, or a dataset of such, batched, "
            "as `fit` takes it."
        ) from error


def _shapes(batch: Any) -> list[tuple[int, ...]]:
    leaves = [t for t in keras.tree.flatten(batch) if t is not None]
    return [tuple(each.shape) for each in leaves]
