"""An order that is computed, and gone into in the middle."""

import time

import pytest
import tensorflow as tf

import tfdp
from tfdp.data import go_to, length
from tfdp.data.index_order import in_order
from tfdp.upstream.tensorflow import tf_datasets


def listed(dataset):
    return [int(number) for number in dataset.as_numpy_iterator()]


@pytest.mark.parametrize("count", [1, 2, 3, 37, 3000])
def test_each_epoch_has_every_number_in_an_order_of_its_own(count):
    order = tfdp.shuffled_range(count, seed=3)
    epochs = [listed(order) for _ in range(3)]
    assert [sorted(epoch) for epoch in epochs] == 3 * [list(range(count))]
    if count > 30:
        assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
        assert list(range(count)) not in epochs


def test_seeds_decide_on_the_orders():
    def epochs(seed):
        order = tfdp.shuffled_range(50, seed=seed)
        return [listed(order), listed(order)]

    tf.random.set_seed(1)
    expected = epochs(3)
    assert epochs(3) == expected
    assert epochs(4) != expected
    order = tfdp.shuffled_range(50, seed=3)
    assert 3 in tf_datasets.shuffle_seeds(order)


def test_an_order_of_nothing_is_refused():
    with pytest.raises(ValueError, match="count"):
        tfdp.shuffled_range(0)


@pytest.mark.parametrize("make", [tfdp.shuffled_range, in_order])
def test_one_epoch_begins_where_it_is_sent(make):
    tf.random.set_seed(1)
    batched = make(10).map(lambda i: i + 0).batch(4).prefetch(1)
    first = list(batched.as_numpy_iterator())
    tf.random.set_seed(1)
    again = make(10).map(lambda i: i + 0).batch(4).prefetch(1)
    assert go_to(again, batches=1)
    rest = list(again.as_numpy_iterator())
    assert [b.tolist() for b in rest] == [b.tolist() for b in first[1:]]
    assert sum(len(b) for b in again) == 10


def test_a_million_samples_further_on_it_begins_at_once():
    batched = tfdp.shuffled_range(2**21, seed=1).batch(64)
    assert go_to(batched, batches=10**6 // 64)
    begun = time.monotonic()
    next(iter(batched))
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize(
    "follows",
    [
        lambda order: order.shuffle(4).batch(2),
        lambda order: order.filter(lambda _: True).batch(2),
        lambda order: order.map(lambda i: tf.random.uniform(())).batch(2),
        lambda order: order.batch(4).batch(2),
        lambda order: order,
        lambda order: tf.data.Dataset.range(8).batch(2),
    ],
)
def test_where_places_are_not_kept_it_does_not(follows):
    dataset = follows(tfdp.shuffled_range(8))
    assert not go_to(dataset, batches=1)
    assert len(list(tfdp.shuffled_range(8))) == 8


def test_its_length_is_known_with_what_follows():
    order = tfdp.shuffled_range(10)
    assert length(order) == 10
    assert length(order.batch(4).prefetch(1)) == 3
    assert length(order.batch(4, drop_remainder=True)) == 2
    assert length(order.filter(lambda _: True)) is None
    assert length(tf.data.Dataset.range(10).batch(4)) is None
