"""Which private name of Keras moved, of those that `keras_data` uses."""

import types
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from contracts import contract
from keras.src.trainers.data_adapters import (
    array_data_adapter,
    array_slicing,
    get_data_adapter,
)
from keras.src.trainers.epoch_iterator import EpochIterator

from tfdp.upstream.keras import keras_data
from tfdp.upstream.tensorflow import tf_datasets


@contract(
    "EpochIterator.data_adapter",
    "TFEpochIterator.__init__ calling experimental_distribute_dataset",
    serves="workers shuffle the arrays given to `fit` in different orders",
)
def test_epoch_iterator_distributes_the_data_of_its_adapter(in_fit):
    callers = in_fit.strategy.callers_of_distribute
    assert callers
    for name, caller in callers:
        assert name == "__init__"
        assert type(caller).__name__ == "TFEpochIterator"
        assert isinstance(
            caller.data_adapter, array_data_adapter.ArrayDataAdapter
        )


@contract(
    "ArrayDataAdapter",
    "_shuffle",
    "_inputs",
    "_num_samples",
    serves="workers shuffle the arrays given to `fit` in different orders",
)
@pytest.mark.parametrize("shuffle", [True, False, "batch"])
def test_array_adapter_keeps_what_it_was_given(shuffle):
    x, y = np.zeros((10, 3)), np.zeros((10, 1))
    adapter = array_data_adapter.ArrayDataAdapter(
        x, y, batch_size=4, shuffle=shuffle
    )
    assert adapter._shuffle == shuffle
    assert type(adapter._shuffle) is type(shuffle)
    assert adapter._inputs[0] is x
    assert adapter._inputs[1] is y
    assert adapter._num_samples == 10
    assert adapter.batch_size == 4


@contract(
    "GeneratorDataAdapter",
    "PyDatasetAdapter",
    serves="an order that Python decides on is not told when backing up",
)
def test_python_code_that_shuffles_is_known():
    class Rows(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return np.zeros((2, 3)), np.zeros((2, 1))

    def shuffles(data, **options):
        adapter = get_data_adapter(data, **options)
        fit = types.SimpleNamespace(data_adapter=adapter)
        return keras_data.shuffles_in_python(fit)

    assert shuffles(row for row in [Rows()[0]])
    assert shuffles(Rows(workers=0), shuffle=True)
    assert not shuffles(Rows(workers=0), shuffle=False)
    assert not shuffles(np.zeros((4, 3)), shuffle=True)


@contract(
    "the warning of `get_data_adapter` on `shuffle=True`",
    serves="whoever gives a dataset to `fit` is warned of what he did not ask",
)
def test_keras_warns_of_its_own_default_or_not_at_all():
    with warnings.catch_warnings(record=True) as found:
        warnings.resetwarnings()
        warnings.simplefilter("always")
        keras_data.silence_own_default()
        # As an `EpochIterator` does, of whose place the warning is.
        EpochIterator(tf.data.Dataset.range(4).batch(2), shuffle=True)
    assert found == []


@contract(
    "array_slicing.convert_to_sliceable",
    serves="workers shuffle the arrays given to `fit` in different orders",
)
def test_arrays_are_converted_in_their_structure():
    arrays = {"a": np.zeros((4, 2)), "b": [np.ones(4), tf.ones((4, 1))]}
    converted = array_slicing.convert_to_sliceable(
        arrays, target_backend="tensorflow"
    )
    keras.tree.assert_same_structure(arrays, converted)
    np.testing.assert_array_equal(converted["b"][0], np.ones(4))


def test_arrays_of_a_fit_and_of_its_validation_are_found(in_fit):
    fit, validation, *others = in_fit.strategy.arrays
    assert (fit.num_samples, fit.batch_size) == (len(in_fit.x), 4)
    assert [fit.is_shuffled, validation.is_shuffled] == [True, False]
    np.testing.assert_array_equal(fit.arrays[0], in_fit.x)
    np.testing.assert_array_equal(fit.arrays[1], in_fit.y)


@pytest.mark.parametrize("data", ["sparse", "shuffled by batch", "dataset"])
def test_what_is_not_split_by_rows_is_left_to_keras(data):
    x = np.zeros((4, 3))
    adapter = {
        "sparse": lambda: get_data_adapter(tf.sparse.from_dense(x)),
        "shuffled by batch": lambda: get_data_adapter(x, shuffle="batch"),
        "dataset": lambda: get_data_adapter(tf.data.Dataset.range(3)),
    }[data]()
    fit = types.SimpleNamespace(data_adapter=adapter)
    assert keras_data.arrays(fit) is None
    assert keras_data.arrays(None) is None


@contract(
    "_distributed_dataset",
    serves="BackupAndRestore does not know how often the data were begun",
)
def test_epoch_iterator_holds_the_dataset_that_the_strategy_made(placing):
    dataset = keras_data.distributed_dataset(placing.callback.fits[0])
    assert isinstance(dataset, tf_datasets.DistributedDataset)
    assert dataset.times_begun >= 1


@contract(
    "ArrayDataAdapter",
    "slice_tensorflow_sparse_wrapper",
    serves="arrays are not read by their rows",
)
@pytest.mark.parametrize("shuffle", [True, False, "batch"])
def test_rows_of_arrays_are_gathered(shuffle):
    x = {"a": np.arange(8.0).reshape(4, 2), "b": tf.range(4)}
    fit = types.SimpleNamespace(
        data_adapter=array_data_adapter.ArrayDataAdapter(
            x, tf.sparse.eye(4), batch_size=3, shuffle=shuffle
        )
    )
    arrays = keras_data.batches_of_arrays(fit)
    assert arrays[1:] == (4, 3, shuffle is True)
    rows, eye = arrays.gather(np.array([2, 0]))
    assert np.asarray(rows["a"]).tolist() == [[4, 5], [0, 1]]
    assert np.asarray(rows["b"]).tolist() == [2, 0]
    assert (
        tf.sparse.to_dense(eye).numpy().tolist() == np.eye(4)[[2, 0]].tolist()
    )
    assert keras_data.batches_of_arrays(None) is None
    assert keras_data.batch_of_arrays(fit) == 3
    assert keras_data.batch_of_arrays(None) is None
