"""How Keras feeds a `fit`.

A doorway to private names of Keras, each of which has a contract in
`tests/upstream/test_keras_data.py`.
"""

import sys
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.trainers.data_adapters import array_slicing
from keras.src.trainers.data_adapters.array_data_adapter import (
    ArrayDataAdapter as _ArrayDataAdapter,
)
from keras.src.trainers.data_adapters.generator_data_adapter import (
    GeneratorDataAdapter as _GeneratorDataAdapter,
)
from keras.src.trainers.data_adapters.py_dataset_adapter import (
    PyDatasetAdapter as _PyDatasetAdapter,
)


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


def distributed_dataset(epoch_iterator: Any) -> Any:
    """Returns the distributed dataset that an `EpochIterator` of `fit` has."""
    return epoch_iterator._distributed_dataset


def shuffles_in_python(epoch_iterator: Any) -> bool:
    """Whether Python code decides on the order of samples of a `fit`."""
    adapter = epoch_iterator.data_adapter
    if isinstance(adapter, _PyDatasetAdapter):
        return bool(adapter.shuffle)
    return isinstance(adapter, _GeneratorDataAdapter)
