"""A distributed dataset passes everything on, and counts its epochs."""

import copy

import numpy as np
import problem
import pytest
import tensorflow as tf

from tfdp.strategy.distributed_dataset import CountedDataset


@pytest.fixture
def source():
    return problem.untuned(tf.data.Dataset.range(6).batch(2))


@pytest.fixture
def counted(two_replicas, source):
    return two_replicas.experimental_distribute_dataset(source)


def test_a_strategy_makes_one(counted, source):
    assert isinstance(counted, CountedDataset)
    assert isinstance(counted, tf.distribute.DistributedDataset)
    assert counted.times_begun == 0
    assert counted.source.element_spec == source.element_spec


def test_a_strategy_makes_one_of_a_function(two_replicas, source):
    """The first epoch of it too counts as the first."""
    counted = two_replicas.distribute_datasets_from_function(lambda _: source)
    epochs = [len(list(counted)) for _ in range(2)]
    assert epochs == [3, 3] or epochs == [2, 2]


def test_each_iterator_counts_as_an_epoch(counted, two_replicas):
    for epoch in range(1, 3):
        rows = [
            np.concatenate(two_replicas.experimental_local_results(batch))
            for batch in counted
        ]
        assert np.concatenate(rows).tolist() == [0, 1, 2, 3, 4, 5]
        assert counted.times_begun == epoch
    iterator = iter(counted)
    next(iterator)
    assert counted.times_begun == 3


def test_a_reduction_counts_as_an_epoch(counted, two_replicas):
    def add(total, batch):
        return total + two_replicas.reduce("SUM", batch, axis=0)

    total = counted.reduce(tf.constant(0, tf.int64), add)
    assert int(total) == 15
    assert counted.times_begun == 1


def test_what_else_is_asked_of_it_is_asked_of_tensorflows(counted):
    assert int(counted.cardinality) == 3
    spec = counted.element_spec
    assert [s.dtype for s in tf.nest.flatten(spec, expand_composites=True)] == [
        tf.int64,
        tf.int64,
    ]
    assert counted.times_begun == 0
    with pytest.raises(AttributeError, match="no_such_name"):
        getattr(counted, "no_such_name")  # noqa: B009


def test_a_copy_counts_for_itself(counted):
    copied = copy.copy(counted)
    iter(copied)
    assert (copied.times_begun, counted.times_begun) == (1, 0)
