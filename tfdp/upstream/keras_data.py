"""How Keras feeds a `fit`.

A doorway to private names of Keras, each of which has a contract in
`tests/upstream/test_keras_data.py`.
"""

import re
import sys
import warnings
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdp.upstream.private import Member, MissingNameError, Name

_SHUFFLED = "workers would shuffle the arrays given to `fit` each on its own"
_PLACE = "BackupAndRestore does not know its place in the data"
_ADAPTERS = "keras.src.trainers.data_adapters"
_array_adapter = Name(
    f"{_ADAPTERS}.array_data_adapter.ArrayDataAdapter", serves=_SHUFFLED
)
_convert_to_sliceable = Name(
    f"{_ADAPTERS}.array_slicing.convert_to_sliceable", serves=_SHUFFLED
)
_generator_adapter = Name(
    f"{_ADAPTERS}.generator_data_adapter.GeneratorDataAdapter", serves=_PLACE
)
_py_dataset_adapter = Name(
    f"{_ADAPTERS}.py_dataset_adapter.PyDatasetAdapter", serves=_PLACE
)
_shuffle = Member("_shuffle", serves=_SHUFFLED)
_inputs = Member("_inputs", serves=_SHUFFLED)
_num_samples = Member("_num_samples", serves=_SHUFFLED)
_data_adapter = Member("data_adapter", serves=_PLACE)
_distributed_dataset = Member(
    "_distributed_dataset",
    serves="workers cannot compare their data, nor BackupAndRestore follow "
    "them",
)

# As `warnings.filterwarnings` compiles them.
_OWN_DEFAULT = re.compile(
    "`shuffle=True` was passed, but will be ignored", re.IGNORECASE
)
_WHERE = re.compile(r"keras\.")


def silence_own_default() -> None:
    """Keeps Keras from warning of a `shuffle=True` that nobody has passed.

    Since 3.15 it does whenever `fit` is given a dataset, before it has asked
    the strategy for anything. The filter is not set again where it is in force:
    each change of the filters has Python repeat warnings that it has shown.
    Who does pass it is not told either.
    """
    keras_own = "ignore", _OWN_DEFAULT, UserWarning, _WHERE, 0
    if keras_own not in warnings.filters[:1]:
        warnings.filterwarnings(
            "ignore",
            message=_OWN_DEFAULT.pattern,
            category=UserWarning,
            module=_WHERE.pattern,
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

    Raises:
        MissingNameError: If Keras keeps its arrays to shuffle elsewhere.
    """
    caller = sys._getframe(depth + 1).f_locals.get("self")
    adapter: Any = getattr(caller, "data_adapter", None)
    if not _shuffles_arrays(adapter):
        return None
    arrays = keras.tree.lists_to_tuples(
        _convert_to_sliceable.find()(
            _inputs.of(adapter), target_backend="tensorflow"
        )
    )
    dense = (np.ndarray, tf.Tensor)
    if not all(isinstance(a, dense) for a in keras.tree.flatten(arrays)):
        return None
    count = _num_samples.of(adapter)
    order = (
        tf.data.Dataset.range(count)
        .shuffle(count, seed=seed)
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
    return _distributed_dataset.of(epoch_iterator)


def kind_of_data(epoch_iterator: Any) -> str:
    """Returns what a `fit` was given.

    Returns:
        `"arrays"`, `"generator"`, `"PyDataset"` or `"dataset"`.
    """
    adapter = _data_adapter.of(epoch_iterator)
    kinds = {
        "arrays": _array_adapter,
        "generator": _generator_adapter,
        "PyDataset": _py_dataset_adapter,
    }
    for kind, name in kinds.items():
        if isinstance(adapter, name.find()):
            return kind
    return "dataset"


def shuffles_in_python(epoch_iterator: Any) -> bool:
    """Whether Python code decides on the order of samples of a `fit`."""
    adapter = _data_adapter.of(epoch_iterator)
    if isinstance(adapter, _py_dataset_adapter.find()):
        return bool(adapter.shuffle)
    return isinstance(adapter, _generator_adapter.find())


def _shuffles_arrays(adapter: Any) -> bool:
    try:
        holds_arrays = isinstance(adapter, _array_adapter.find())
    except MissingNameError:
        if getattr(adapter, _shuffle.name, False) is True:
            raise
        return False
    return holds_arrays and _shuffle.of(adapter) is True
