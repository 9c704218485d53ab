"""The only doorway to private names of Keras.

`tests/test_contracts.py` says which of them moved.
"""

import sys
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.trainers.data_adapters import array_slicing
from keras.src.trainers.data_adapters.array_data_adapter import (
    ArrayDataAdapter as _ArrayDataAdapter,
)


def is_symbolic_build(depth: int = 1) -> bool:
    """Whether a caller is Keras, asking for the shape of one batch.

    Before the first step Keras reduces a batch of data over the replicas, of
    which it then uses shapes and types alone. Nothing in the values tells that
    call from a user's own.

    Args:
        depth: How many frames above the caller of this function to look.
    """
    return sys._getframe(depth + 1).f_code.co_name == "_maybe_symbolic_build"


def callbacks_in_use(depth: int = 1) -> list[keras.callbacks.Callback] | None:
    """Returns all callbacks of the `fit` that is calling a callback's hook.

    Args:
        depth: How many frames above the caller of this function to look.

    Returns:
        The callbacks in their order, or `None` where the hook was not called
        by a `keras.callbacks.CallbackList`.
    """
    caller = sys._getframe(depth + 1).f_locals.get("self")
    if isinstance(caller, keras.callbacks.CallbackList):
        return list(caller.callbacks)
    return None


def reshuffled_arrays(seed: int, depth: int = 1) -> tf.data.Dataset | None:
    """Returns the arrays that a calling `fit` wants shuffled, as a dataset.

    Keras shuffles arrays by an operation that is either different on every
    worker or, once TensorFlow has a seed, the same in every epoch.

    Args:
        seed: Seed of the order, which changes from epoch to epoch.
        depth: How many frames above the caller of this function to look for
            the `EpochIterator` that holds the arrays.

    Returns:
        A batched dataset, or `None` where the caller holds no arrays, or
        wants no shuffling over all samples, or the arrays are sparse.
    """
    caller = sys._getframe(depth + 1).f_locals.get("self")
    adapter = getattr(caller, "data_adapter", None)
    if (
        not isinstance(adapter, _ArrayDataAdapter)
        or adapter._shuffle is not True
    ):
        return None
    arrays = keras.tree.lists_to_tuples(
        array_slicing.convert_to_sliceable(
            adapter._inputs, target_backend="tensorflow"
        )
    )
    dense = (np.ndarray, tf.Tensor)
    if not all(isinstance(a, dense) for a in keras.tree.flatten(arrays)):
        return None
    order = (
        tf.data.Dataset.range(adapter._num_samples)
        .shuffle(adapter._num_samples, seed=seed)
        .batch(adapter.batch_size)
    )
    return tf.data.Dataset.zip(
        order, tf.data.Dataset.from_tensors(arrays).repeat()
    ).map(
        lambda indices, whole: keras.tree.map_structure(
            lambda array: tf.gather(array, indices), whole
        ),
        num_parallel_calls=tf.data.AUTOTUNE,
    )


def model_of_step(fn: Callable[..., Any]) -> keras.Model | None:
    """Returns the model whose `test_step` this is, if any.

    Or whose `train_step`, if its optimizer gives no weight to a replica that
    has no samples.
    """
    model = getattr(fn, "__self__", None)
    name = getattr(fn, "__name__", None)
    if not isinstance(model, keras.Model):
        return None
    weighs = getattr(model.optimizer, "weighs_samples", False)
    if name == "test_step" or (name == "train_step" and weighs):
        return model
    return None


def is_predict_step(fn: Callable[..., Any]) -> bool:
    """Whether this is what Keras's `predict` gives to `Strategy.run`."""
    name = getattr(fn, "__qualname__", "")
    return name.endswith("make_predict_function.<locals>.one_step_on_data")


def all_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Returns the layers of a model, those inside of layers too."""
    return list(model._flatten_layers(include_self=False, recursive=True))


def copy_that_takes_reduced_gradients(
    optimizer: keras.optimizers.Optimizer,
) -> keras.optimizers.Optimizer:
    """Copies an optimizer; the copy sums no gradients over replicas.

    Args:
        optimizer: An optimizer that was not built yet.

    Returns:
        A new optimizer of the same configuration, learning rate object and
        exclusions from weight decay, whose whole update path (clipping,
        decay, update, moving average, constraints) is Keras's own.
    """
    with warnings.catch_warnings():
        # Of a rate that is a lambda; it is handed over as it is.
        warnings.simplefilter("ignore")
        config = optimizer.get_config()
    rate = optimizer._learning_rate
    if not isinstance(rate, keras.Variable) and callable(rate):
        config["learning_rate"] = rate
    copy = type(optimizer).from_config(config)
    for name in (
        "_exclude_from_weight_decay",
        "_exclude_from_weight_decay_pattern",
    ):
        if hasattr(optimizer, name):
            setattr(copy, name, getattr(optimizer, name))
    copy._all_reduce_sum_gradients = list
    return copy
