"""Which private name of Keras moved, of those that `keras_epochs` uses."""

import inspect
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from contracts import contract
from keras.src.backend.tensorflow.trainer import TFEpochIterator
from keras.src.trainers.data_adapters.py_dataset_adapter import (
    OrderedEnqueuer,
    PyDatasetAdapter,
)

from tfdp.upstream.keras import keras_epochs
from tfdp.upstream.tensorflow import tf_datasets


class Rows(keras.utils.PyDataset):
    @property
    def num_batches(self):
        return 3

    def __getitem__(self, index):
        return np.full((2, 3), index), np.zeros((2, 1))


class Fed:
    """Stands for an `EpochIterator`, which holds its data by an adapter."""

    def __init__(self, **options):
        self.data_adapter = PyDatasetAdapter(Rows(**options), shuffle=True)
        self.data_adapter.get_tf_dataset()


@contract(
    "TFEpochIterator",
    "TFEpochIterator.__init__ calling experimental_distribute_dataset",
    serves="Keras takes batches before the first step, which are lost",
)
def test_the_iterator_that_is_made_is_found_from_its_strategy(in_fit):
    made = [caller for _, caller in in_fit.strategy.callers_of_distribute]
    assert made
    assert all(isinstance(each, TFEpochIterator) for each in made)
    assert keras_epochs.iterator_under_construction(within=9) is None


@contract(
    "_get_iterator",
    "_enumerate_iterator",
    "catch_stop_iteration",
    "_distributed_dataset",
    serves="batches are taken before they are wanted, and lost",
)
def test_an_epoch_iterator_asks_itself_for_what_it_goes_through():
    for name in (
        "_get_iterator",
        "_enumerate_iterator",
        "catch_stop_iteration",
    ):
        theirs = inspect.signature(getattr(TFEpochIterator, name))
        assert list(theirs.parameters) == ["self"]

    class Later:
        def __init__(self, *, is_kept):
            assert not is_kept

        def __iter__(self):
            return self

        def __next__(self):
            raise StopIteration

        def begun(self):
            return "begun"

    iterator = TFEpochIterator.__new__(TFEpochIterator)
    keras.src.trainers.epoch_iterator.EpochIterator.__init__(
        iterator, np.zeros((4, 1)), batch_size=2
    )
    keras_epochs.begin_late(iterator, ValueError)
    compared = []
    iterator._distributed_dataset = types.SimpleNamespace(
        later=Later, compare=lambda: compared.append(len(steps))
    )
    steps = []
    with iterator.catch_stop_iteration():
        for step in iterator:
            steps.append(step)
    assert steps == [(0, 0, "begun"), (1, 1, "begun")]
    # After the first step, and at the end.
    assert compared == [1, 2]


@contract(
    "_num_batches",
    "_enumerate_iterator",
    serves="samples of files that are split are lost where an epoch is longer "
    "than the first",
)
def test_an_epoch_may_be_longer_than_the_first():
    lengths = iter([2, 5])

    def rows():
        for _ in range(next(lengths)):
            yield np.zeros((1, 3), "float32")

    signature = tf.TensorSpec((1, 3))
    # Keras looks at none before the first epoch.
    data = tf.data.Dataset.from_generator(rows, output_signature=signature)
    iterator = TFEpochIterator(
        distribute_strategy=tf.distribute.get_strategy(), x=data
    )
    keras_epochs.forget_length(iterator)
    for length in (2, 5):
        with pytest.warns(UserWarning, match="ran out of data"):
            assert _steps(iterator) == length


def _steps(iterator):
    taken = 0
    with iterator.catch_stop_iteration():
        for _, _, batches in iterator:
            next(batches)
            taken += 1
    return taken


@contract(
    "PyDatasetAdapter.py_dataset",
    "enqueuer",
    "shuffle",
    "_output_signature",
    "_standardize_batch",
    "OrderedEnqueuer.start",
    "get",
    "stop",
    serves="all epochs of a PyDataset with workers take from one queue",
)
def test_a_pydataset_of_workers_is_read_anew_each_time():
    fed = Fed(workers=2)
    assert isinstance(fed.data_adapter.enqueuer, OrderedEnqueuer)
    data = keras_epochs.py_dataset_in_order(fed, lambda order: order.reverse())
    assert fed.data_adapter.enqueuer is None
    first, second = iter(data), iter(data)
    for iterator in (first, second):
        assert [int(x[0, 0]) for x, _ in iterator] == [2, 1, 0]


def test_a_pydataset_without_workers_is_read_in_the_order_asked_for():
    fed = Fed()
    data = keras_epochs.py_dataset_in_order(fed, lambda order: order.reverse())
    assert [int(x[0, 0]) for x, _ in data] == [2, 1, 0]


def test_a_pydataset_is_read_as_what_its_items_are_said_to_be():
    fed = Fed()
    assert isinstance(keras_epochs.py_dataset(fed), Rows)
    assert keras_epochs.py_dataset(None) is None
    kinds = (tf.TensorSpec((None, None)), tf.TensorSpec((None, 1)))
    data = keras_epochs.py_dataset_in_order(fed, signature=kinds)
    assert data.element_spec == kinds
    assert sorted(int(x[0, 0]) for x, _ in data) == [0, 1, 2]


def test_what_reads_anew_by_itself_is_left_to_keras():
    assert keras_epochs.py_dataset_in_order(Fed()) is None
    assert keras_epochs.py_dataset_in_order(None) is None


@contract(
    "TFDatasetAdapter",
    "_dataset",
    "_num_batches",
    serves="epochs of a dataset split by tfdp.shard end too early",
)
def test_an_epoch_iterator_goes_by_the_length_it_is_given():
    class Longer(tf_datasets.DistributedDataset):
        cardinality = 7

        def __init__(self):
            pass

    epochs = TFEpochIterator(
        tf.distribute.get_strategy(), x=tf.data.Dataset.range(8).batch(4)
    )
    assert epochs.num_batches == 2
    keras_epochs.take_length(epochs, Longer())
    assert epochs.num_batches == 7
    epochs.reset()
    assert epochs.num_batches == 7


def test_data_for_predict_is_known_from_its_caller():
    class Model(keras.Model):
        def predict(self):
            return asked()

        def evaluate(self):
            return asked()

    def asked():
        return keras_epochs.is_predicting(within=2)

    assert Model().predict()
    assert not Model().evaluate()


@contract(
    "_interrupted_warning",
    "_num_batches",
    "_enumerate_iterator",
    "reset",
    serves="a worker that takes batches by their numbers ends too early",
)
@pytest.mark.parametrize("steps", [None, 1])
def test_epochs_go_on_until_their_data_end_without_a_warning(steps):
    lengths = iter([2, 5])

    def rows():
        for _ in range(next(lengths)):
            yield np.zeros((1, 3), "float32")

    data = tf.data.Dataset.from_generator(
        rows, output_signature=tf.TensorSpec((1, 3))
    )
    iterator = TFEpochIterator(
        distribute_strategy=tf.distribute.get_strategy(),
        x=data,
        steps_per_epoch=steps,
    )
    keras_epochs.until_end(iterator, 7)
    iterator.reset()
    assert iterator.num_batches == 7
    assert [_steps(iterator) for _ in range(2)] == [2, 5]


@contract(
    "_standardize_batch",
    serves="each worker computes the items of all",
)
def test_single_items_are_asked_for():
    fed = Fed(workers=2)
    item, is_shuffled = keras_epochs.py_dataset_items(fed)
    assert is_shuffled
    assert fed.data_adapter.enqueuer is None
    assert item(2)[0].tolist() == [[2, 2, 2], [2, 2, 2]]
