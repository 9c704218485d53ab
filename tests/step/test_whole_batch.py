"""Samples of all replicas are compared, and trained on, as on one device."""

import re

import keras
import negatives
import numpy as np
import pytest
import tensorflow as tf

import tfdp


def alone(tensor):
    return tensor


def close(actual, expected):
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


@pytest.mark.parametrize("rows", ["all", "own"])
def test_negatives_of_the_whole_batch_equal_one_device(strategy, rows):
    x, y = negatives.views()
    model = negatives.contrastive(rows="all", gather=alone)
    expected = negatives.trained(model, keras.optimizers.SGD(0.5), x, y)
    with strategy.scope():
        model = negatives.contrastive(rows)
        optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(0.5))
    close(negatives.trained(model, optimizer, x, y), expected)


@pytest.mark.multi_worker
def test_negatives_of_other_workers_equal_one_device():
    model = negatives.contrastive(rows="all", gather=alone)
    sgd = keras.optimizers.SGD(0.5)
    expected = negatives.trained(model, sgd, *negatives.views())
    for weights in tfdp.testing.run_workers(negatives.of_worker, 2):
        close(map(np.array, weights), expected)


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("loss_scale", [None, "dynamic"])
def test_a_layer_over_the_batch_equals_one_device(
    strategy, normalized, loss_scale
):
    x, y = negatives.views()
    model = negatives.centered(alone, **{"momentum": 0.5} if normalized else {})
    expected = negatives.trained(
        model, keras.optimizers.SGD(0.5), x, y, loss="mse"
    )
    synchronized = {"momentum": 0.5, "synchronized": True}
    with strategy.scope():
        model = negatives.centered(**synchronized if normalized else {})
        optimizer = tfdp.DistributedOptimizer(
            keras.optimizers.SGD(0.5), loss_scale=loss_scale
        )
    close(negatives.trained(model, optimizer, x, y, loss="mse"), expected)


def test_rows_come_in_the_order_of_the_batch(strategy):
    data = tf.data.Dataset.range(7).batch(7)
    (batch,) = strategy.experimental_distribute_dataset(data)
    rows = strategy.run(
        lambda x: (tfdp.gather(x), tfdp.gather(x % 2 == 0)), (batch,)
    )
    for numbers, flags in zip(
        *map(strategy.experimental_local_results, rows), strict=True
    ):
        assert numbers.numpy().tolist() == list(range(7))
        assert flags.numpy().tolist() == [i % 2 == 0 for i in range(7)]


def test_gathering_while_accumulating_is_refused(two_replicas):
    x, y = negatives.views()
    with two_replicas.scope():
        model = negatives.contrastive("all")
        optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(0.5), 2)
    with pytest.raises(ValueError, match=r"through `tfdp.gather`"):
        negatives.trained(model, optimizer, x, y)


@pytest.mark.parametrize(
    ("tensor", "received"),
    [
        (tf.sparse.from_dense([[1.0]]), "SparseTensor"),
        (tf.ragged.constant([[1.0]]), "RaggedTensor"),
        (1.0, "shape ()"),
        (["a"], "dtype string"),
    ],
)
def test_what_has_no_rows_of_numbers_is_refused(tensor, received):
    with pytest.raises(TypeError, match=re.escape(received)):
        tfdp.gather(tensor)


def test_a_strategy_that_does_not_count_samples_is_refused():
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with pytest.raises(RuntimeError, match="Received: MirroredStrategy"):
        strategy.run(lambda: tfdp.gather([[1.0]]))
