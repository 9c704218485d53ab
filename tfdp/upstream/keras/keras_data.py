"""How Keras feeds a `fit`.

A doorway to private names of Keras, each of which has a contract in
`tests/upstream/test_keras_data.py`.
"""

import re
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

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
_slice_sparse = Name(
    f"{_ADAPTERS}.array_slicing.slice_tensorflow_sparse_wrapper",
    serves="sparse arrays are not read by their rows",
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


class Arrays(NamedTuple):
    """Arrays given to `fit`, `evaluate` or `predict`.

    Attributes:
        arrays: The structure of them, `None` for what is missing.
        num_samples: Their rows.
        batch_size: Rows of a batch.
        is_shuffled: Whether all rows are to be shuffled.
    """

    arrays: Any
    num_samples: int
    batch_size: int
    is_shuffled: bool


class ArrayRows(NamedTuple):
    """Arrays given to `fit`, by their rows.

    Attributes:
        gather: Returns the rows of all arrays at an array of places.
        num_samples: As of `Arrays`.
        batch_size: As of `Arrays`.
        is_shuffled: As of `Arrays`.
    """

    gather: Callable[[np.ndarray], Any]
    num_samples: int
    batch_size: int
    is_shuffled: bool


def arrays(epoch_iterator: Any) -> Arrays | None:
    """Returns the arrays of an `EpochIterator`.

    Args:
        epoch_iterator: Of a `fit`, `evaluate` or `predict`; may be `None`.

    Returns:
        The arrays, or `None` where there are none, some are sparse, or only
        the batches are to be shuffled.

    Raises:
        MissingNameError: If Keras keeps its arrays elsewhere.
    """
    adapter: Any = getattr(epoch_iterator, "data_adapter", None)
    if not _holds_arrays(adapter) or _shuffle.of(adapter) not in (True, False):
        return None
    sliceable = keras.tree.lists_to_tuples(
        _convert_to_sliceable.find()(
            _inputs.of(adapter), target_backend="tensorflow"
        )
    )
    dense = (np.ndarray, tf.Tensor)
    leaves = keras.tree.flatten(sliceable)
    if not all(each is None or isinstance(each, dense) for each in leaves):
        return None
    return Arrays(
        sliceable,
        _num_samples.of(adapter),
        adapter.batch_size,
        bool(_shuffle.of(adapter)),
    )


def batches_of_arrays(epoch_iterator: Any) -> ArrayRows | None:
    """Returns how to get rows of the arrays of an `EpochIterator`.

    Args:
        epoch_iterator: Of a `fit`; may be `None`.

    Returns:
        That; or `None` where there are no arrays.
    """
    adapter: Any = getattr(epoch_iterator, "data_adapter", None)
    if not _holds_arrays(adapter):
        return None
    sliceable = keras.tree.lists_to_tuples(
        _convert_to_sliceable.find()(
            _inputs.of(adapter), target_backend="tensorflow"
        )
    )
    return ArrayRows(
        lambda places: keras.tree.traverse(
            lambda part: _rows(part, places), sliceable
        ),
        _num_samples.of(adapter),
        adapter.batch_size,
        # Of "batch", rows of a batch alone change places.
        _shuffle.of(adapter) is True,
    )


def batch_of_arrays(epoch_iterator: Any) -> int | None:
    """Returns how many rows of arrays are a batch; `None` of other data.

    Args:
        epoch_iterator: Of a `fit`.
    """
    adapter: Any = getattr(epoch_iterator, "data_adapter", None)
    return adapter.batch_size if _holds_arrays(adapter) else None


def _rows(part: Any, places: np.ndarray) -> Any:
    """Returns rows of an array; `None` for what consists of several."""
    if isinstance(part, np.ndarray):
        return np.take(part, places, axis=0)
    if isinstance(part, tf.Tensor):
        return tf.gather(part, places)
    if hasattr(part, "ragged_indices"):
        return _slice_sparse.find()(part, tf.constant(places))
    return None


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


def _holds_arrays(adapter: Any) -> bool:
    try:
        return isinstance(adapter, _array_adapter.find())
    except MissingNameError:
        if getattr(adapter, _shuffle.name, False) is True:
            raise
        return False
