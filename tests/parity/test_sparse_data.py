"""Sparse and ragged samples train as on one device, whatever a replica gets.

A last batch of one sample leaves replicas with none.
"""

import functools

import keras
import numpy as np
import pytest
import sparse_data
import tensorflow as tf
from grids import later
from places import SHARED

import tfdp
from tfdp.strategy.sparse_rows import as_rows, with_tensors

# Keras's own, of any sparse data, on one device too.
pytestmark = pytest.mark.filterwarnings("ignore:Your input ran out of data")


@functools.cache
def of_one_device(kind, samples):
    return sparse_data.results(kind, samples)


def check_equal(actual, kind, samples):
    expected = of_one_device(kind, samples)
    for ours, theirs in zip(
        actual["weights"], expected["weights"], strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert actual["history"].keys() == expected["history"].keys()
    for name, values in expected["history"].items():
        np.testing.assert_allclose(actual["history"][name], values, atol=1e-6)
    for name in ("evaluated", "predicted"):
        np.testing.assert_allclose(actual[name], expected[name], atol=1e-6)


@pytest.mark.sampled
@pytest.mark.parametrize("kind", later(sparse_data.KINDS, ["sparse", "ragged"]))
def test_replicas_without_a_sample_change_nothing(strategy, kind):
    check_equal(sparse_data.results(kind, 33, strategy), kind, 33)


@pytest.mark.long
@pytest.mark.parametrize("samples", [32, 34, 37])
def test_batches_of_any_size_equal_one_device(samples):
    strategy = tfdp.MirroredStrategy([f"CPU:{i}" for i in range(4)])
    actual = sparse_data.results("sparse", samples, strategy)
    check_equal(actual, "sparse", samples)


@pytest.mark.multi_worker
@pytest.mark.parametrize(
    "kinds", later(["sparse ragged", "scipy"], ["sparse ragged"])
)
def test_two_workers_equal_one_device(kinds):
    kinds = kinds.split()
    for found in tfdp.testing.run_workers(SHARED / "sparse_data.py", 2, kinds):
        for kind in kinds:
            check_equal(found[kind], kind, 33)
        assert found["seen"] == [48, 48, 48]


@pytest.mark.sampled
@pytest.mark.parametrize("kind", ["sparse", "ragged"])
def test_a_batch_given_by_itself_is_shared_out(two_replicas, kind):
    x, y = sparse_data.arrays(5)
    x = sparse_data.ragged(x) if kind == "ragged" else tf.sparse.from_dense(x)

    def trained(optimizer):
        model = sparse_data.model_of(kind)
        model.compile(optimizer, "mse")
        for _ in range(2):
            model.train_on_batch(x, y)
        return [*model.get_weights(), model.predict_on_batch(x)]

    expected = trained(keras.optimizers.SGD(0.1))
    optimizer = keras.optimizers.SGD(0.1)
    with two_replicas.scope():
        optimizer = tfdp.DistributedOptimizer(optimizer)
        actual = trained(optimizer)
    assert optimizer.samples_by_replica() == [4, 6]
    for ours, theirs in zip(actual, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.sampled
@pytest.mark.parametrize("shape", [(3,), (4, 5), (2, 3, 4), (0, 3)], ids=str)
@pytest.mark.parametrize("is_known", [True, False])
def test_sparse_tensors_come_back_as_they_were(shape, is_known):
    random = np.random.default_rng(1)
    dense = random.integers(0, 3, shape).astype("float32")
    sparse = tf.sparse.from_dense(dense)
    spec = tf.SparseTensorSpec([None] * len(shape), tf.float32)
    if is_known:
        spec = tf.SparseTensorSpec([None, *shape[1:]], tf.float32)
    data = tf.data.Dataset.from_generator(
        lambda: iter([{"x": sparse}]), output_signature={"x": spec}
    )
    (element,) = as_rows(data).map(with_tensors)
    np.testing.assert_array_equal(tf.sparse.to_dense(element["x"]), dense)
    again = as_rows(data).map(with_tensors).element_spec["x"]
    assert again.shape.as_list() == spec.shape.as_list()


@pytest.mark.parametrize("is_known", [True, False])
def test_ragged_vectors_come_back_as_they_were(is_known):
    rows = [[[[1, 2], [3, 4]], []], [], [[[5, 6]]]]
    ragged = tf.ragged.constant(rows, ragged_rank=2, inner_shape=(2,))
    vector = 2 if is_known else None
    spec = tf.RaggedTensorSpec([None, None, None, vector], tf.int32, 2)
    data = tf.data.Dataset.from_generator(
        lambda: iter([ragged, ragged[:0]]), output_signature=spec
    )
    again = as_rows(data).map(with_tensors)
    assert [each.to_list() for each in again] == [rows, []]
    assert again.element_spec.shape.as_list() == [None, None, None, vector]


def test_what_is_not_sparse_stays_the_object_that_it_was():
    x = {
        "a": [tf.ones(2)],
        "b": (None, tf.ragged.constant([[1]], dtype="int32")),
    }
    assert with_tensors(x) is x
    data = tf.data.Dataset.range(4).batch(2)
    assert as_rows(data) is data


def test_a_loop_of_ones_own_is_given_sparse_tensors(two_replicas):
    x, _ = sparse_data.arrays(5)
    data = tf.data.Dataset.from_tensor_slices(tf.sparse.from_dense(x)).batch(4)

    @tf.function
    def total(batch):
        sums = two_replicas.run(tf.sparse.reduce_sum, (batch,))
        return two_replicas.reduce("SUM", sums, axis=None)

    sums = [
        float(total(batch))
        for batch in two_replicas.experimental_distribute_dataset(data)
    ]
    np.testing.assert_allclose(sums, [x[:4].sum(), x[4:].sum()], rtol=1e-5)
