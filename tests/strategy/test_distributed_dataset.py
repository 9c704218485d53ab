"""A distributed dataset passes everything on, and counts its epochs."""

import copy

import keras
import numpy as np
import problem
import pytest
import tensorflow as tf

import tfdp
from tfdp.data import Split
from tfdp.strategy.distributed_dataset import CountedDataset
from tfdp.strategy.splitting import distribute_split


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


def test_what_was_read_before_is_compared_where_it_is_begun(counted):
    begun = []
    counted.compare = lambda: begun.append(counted.times_begun)
    for _ in range(2):
        list(counted)
    assert begun == [0, 1]


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


def _maybe_symbolic_build(dataset):
    """Asks for a batch as Keras does before the first step."""
    return (lambda: (lambda: next(iter(dataset)))())()


def test_keras_is_told_of_a_batch_without_taking_one(two_replicas):
    taken = []

    def elements():
        for k in range(3):
            taken.append(k)
            yield {"a": [k] * 4, "b": np.ones((4, 2), "float32")}

    spec = {
        "a": tf.TensorSpec([4], tf.int32),
        "b": tf.TensorSpec([4, None], tf.float32),
    }
    data = tf.data.Dataset.from_generator(elements, output_signature=spec)
    data = data.map(lambda batch: {**batch, "c": None})
    counted = two_replicas.experimental_distribute_dataset(data)
    batch = _maybe_symbolic_build(counted)
    assert batch == {
        "a": tf.TensorSpec([None], tf.int32),
        "b": tf.TensorSpec([None, None], tf.float32),
        "c": None,
    }
    assert (taken, counted.times_begun) == ([], 0)


def test_sparse_and_ragged_samples_are_told_of_as_keras_sees_them(two_replicas):
    data = tf.data.Dataset.from_tensors(
        (
            tf.sparse.from_dense(np.eye(4, dtype="float32")),
            tf.ragged.constant([[1.0], [], [2.0], [3.0]]),
        )
    )
    sparse, ragged = _maybe_symbolic_build(
        two_replicas.experimental_distribute_dataset(data)
    )
    assert (sparse.shape, ragged.shape) == ((None, 4), (None, None))


def test_where_no_specification_tells_a_batch_is_taken(two_replicas):
    data = tf.data.Dataset.from_generator(
        lambda: iter([np.ones((4, 3))]), output_types=tf.float32
    )
    counted = two_replicas.experimental_distribute_dataset(data)
    batch = _maybe_symbolic_build(counted)
    shapes = [r.shape for r in two_replicas.experimental_local_results(batch)]
    assert shapes == [(2, 3), (2, 3)]
    assert counted.times_begun == 1


def test_an_epoch_that_begins_later_takes_nothing_until_it_is_used(
    two_replicas,
):
    begun = []

    def elements():
        begun.append(1)
        yield from ([k] for k in range(4))

    spec = tf.TensorSpec([1], tf.int32)
    data = tf.data.Dataset.from_generator(elements, output_signature=spec)
    counted = two_replicas.experimental_distribute_dataset(
        data.unbatch().batch(2)
    )
    later = iter(counted.later())
    assert (begun, counted.times_begun) == ([], 1)
    assert len(list(later)) == 2
    assert (len(begun), counted.times_begun) == (1, 1)
    assert later.begun() is later.begun()


def test_an_epoch_that_is_not_used_draws_its_order(two_replicas):
    def orders(used):
        data = tf.data.Dataset.range(8).shuffle(8, seed=3).batch(8)
        counted = two_replicas.experimental_distribute_dataset(data)
        found = []
        for is_used in used:
            later = iter(counted.later())
            if is_used:
                rows = two_replicas.experimental_local_results(next(later))
                found.append(np.concatenate(rows).tolist())
        return found

    first, _, third = orders([True, True, True])
    assert orders([True, False, True]) == [first, third]


@pytest.mark.parametrize("kind", ["tuple", "single", "one", "dict", "ragged"])
def test_what_a_generator_yields_keeps_its_structure(two_replicas, kind):
    rows = np.arange(8, dtype="float32").reshape(4, 2)

    def of(x):
        if kind == "ragged":
            return tf.RaggedTensor.from_tensor(x)
        return {"tuple": (x, x), "single": (x,), "dict": {"x": x}}.get(kind, x)

    def batches():
        for i in (0, 2):
            yield of(rows[i : i + 2])

    spec = tf.TensorSpec((None, 2))
    if kind == "ragged":
        signature = tf.RaggedTensorSpec((None, None))
    else:
        signature = tf.nest.map_structure(lambda _: spec, of(rows))
    data = tf.data.Dataset.from_generator(batches, output_signature=signature)
    made = two_replicas.experimental_distribute_dataset(problem.untuned(data))
    assert made.source.element_spec == data.element_spec

    for i, batch in enumerate(made):
        (local, *_) = two_replicas.experimental_local_results(batch)
        (leaf, *_) = tf.nest.flatten(local, expand_composites=True)
        np.testing.assert_array_equal(
            tf.reshape(leaf, [-1]), rows[2 * i : 2 * i + 1].reshape(-1)
        )


def test_arrays_of_a_generator_keep_their_values_in_training(two_replicas):
    x, y = problem.arrays(16)
    before = x.copy(), y.copy()

    def batches():
        for i in range(0, 16, 4):
            yield x[i : i + 4], y[i : i + 4]

    specs = tf.TensorSpec((None, 8)), tf.TensorSpec((None, 1))
    data = tf.data.Dataset.from_generator(batches, output_signature=specs)
    with two_replicas.scope():
        model = problem.make_model()
        model.compile(
            tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1)), "mse"
        )
    model.fit(problem.untuned(data), steps_per_epoch=4, verbose=0)
    for array, same in zip((x, y), before, strict=True):
        np.testing.assert_array_equal(array, same)


@pytest.mark.parametrize(
    ("steps", "asks"), [(3, False), (tf.data.UNKNOWN_CARDINALITY, True)]
)
def test_workers_ask_each_other_where_steps_are_not_known(
    two_replicas, source, steps, asks
):
    split = Split(source, source, steps)
    counted = distribute_split(two_replicas, split)
    assert counted._enable_get_next_as_optional is asks
    assert counted.cardinality == steps
    assert counted.is_split
