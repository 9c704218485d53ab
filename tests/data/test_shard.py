"""A mark splits a pipeline, or says why it does not."""

import numpy as np
import pytest
import tensorflow as tf

import tfdp
from tfdp.cluster import membership as memberships
from tfdp.cluster.membership import Membership, join, membership
from tfdp.data import cache_files, is_marked, pipeline

SECOND_OF_TWO = Membership(1, 2)


@pytest.fixture
def second_of_two(monkeypatch):
    monkeypatch.setattr(memberships, "_joined", [])
    join(SECOND_OF_TWO)


def numbers(count=10):
    return tf.data.Dataset.range(count)


def even():
    """Numbers that workers and micro-batches divide."""
    return numbers(12).apply(tfdp.shard)


def listed(dataset):
    return [np.asarray(batch).tolist() for batch in dataset.as_numpy_iterator()]


def test_on_one_worker_it_changes_nothing(monkeypatch):
    monkeypatch.setattr(memberships, "_joined", [])
    monkeypatch.delenv("TF_CONFIG", raising=False)
    dataset = numbers()
    assert tfdp.shard(dataset) is dataset
    assert membership() == Membership()


def test_of_two_workers_the_second_has_every_other_element(second_of_two):
    dataset = numbers().apply(tfdp.shard).map(lambda x: 10 * x).batch(4)
    assert listed(dataset) == [[10, 30, 50, 70], [90]]
    assert is_marked(dataset)
    assert pipeline(dataset, SECOND_OF_TWO) == (4, 5)


def test_before_the_strategy_it_is_refused(monkeypatch):
    monkeypatch.setattr(memberships, "_joined", [])
    addresses = '["10.0.0.1:1", "10.0.0.2:1"]'
    monkeypatch.setenv(
        "TF_CONFIG",
        f'{{"cluster": {{"worker": {addresses}}},'
        ' "task": {"type": "worker", "index": 1}}',
    )
    with pytest.raises(RuntimeError, match="Create the strategy first"):
        tfdp.shard(numbers())


def test_inside_of_another_dataset_it_is_refused(second_of_two):
    with pytest.raises(RuntimeError, match="Apply it to the outer dataset"):
        numbers().interleave(lambda _: numbers().apply(tfdp.shard))


def test_twice_it_is_refused(second_of_two):
    with pytest.raises(ValueError, match="Apply it once"):
        numbers().apply(tfdp.shard).map(abs).apply(tfdp.shard)


def test_of_anything_else_it_is_refused():
    with pytest.raises(TypeError, match="Received: list"):
        tfdp.shard([1, 2])


REFUSED = {
    "a part that is not marked": lambda marked: tf.data.Dataset.zip(
        marked, numbers(5)
    ).batch(2),
    "after `zip`, `concatenate`, `snapshot`": lambda marked: marked.snapshot(
        "never_written"
    ).batch(2),
    "and `sample_from_datasets`": lambda marked: (
        tf.data.Dataset.sample_from_datasets([marked, marked]).batch(2)
    ),
    "`take` at its end": lambda marked: marked.batch(2).take(2),
    "`shuffle` at its end": lambda marked: marked.batch(2).shuffle(2),
    "`group_by_window` at its end": lambda marked: marked.group_by_window(
        lambda x: x % 2, lambda key, window: window.batch(2), 2
    ),
    "no `batch` outside of `interleave`": lambda marked: marked.interleave(
        lambda x: tf.data.Dataset.range(x).batch(2)
    ),
    "no `batch` outside of `flat_map`": lambda marked: marked.flat_map(
        lambda x: tf.data.Dataset.range(x).batch(2)
    ),
    "a `batch` before it .*, and move `batch` after it": lambda _: (
        numbers().batch(2).apply(tfdp.shard).prefetch(1)
    ),
    "no `batch` after it": lambda marked: marked,
    "padded_batch.*drop_remainder=True": lambda marked: marked.padded_batch(
        2, drop_remainder=True
    ),
    "sparse or ragged": lambda marked: marked.batch(2).map(
        lambda x: tf.RaggedTensor.from_row_lengths(x, [2])
    ),
    "`take` after it": lambda marked: marked.take(2).batch(2),
    "`skip` after it": lambda marked: marked.skip(2).batch(2),
    "`shard` after it": lambda marked: marked.shard(2, 0).batch(2),
    "`take_while` after it": lambda marked: marked.take_while(
        lambda x: x < 4
    ).batch(2),
    "`scan` after it": lambda marked: marked.scan(
        tf.constant(0, tf.int64), lambda s, x: (s + x, s)
    ).batch(2),
    "`unique` after it": lambda marked: marked.unique().batch(2),
    r"`batch\(..., drop_remainder=True\)`": lambda marked: (
        marked.batch(2, drop_remainder=True).unbatch().batch(2)
    ),
    r"`window\(..., drop_remainder=True\)`": lambda marked: (
        marked.window(2, drop_remainder=True)
        .flat_map(lambda window: window)
        .batch(2)
    ),
    "`repeat` after the mark, of 10": lambda m: m.batch(4).repeat(),
    "`repeat` after the mark, of -2": lambda m: (
        numbers().filter(lambda x: x > 0).apply(tfdp.shard).repeat().batch(2)
    ),
    "`repeat` after the mark, of 12": lambda _: (
        numbers(12).apply(tfdp.shard).batch(8).repeat()
    ),
    "`repeat` after `filter`, after the mark": lambda _: (
        even().filter(lambda x: x > 0).batch(2).repeat()
    ),
    "`repeat` after `filter`, after": lambda _: (
        even().filter(lambda x: x > 0).map(abs).repeat(2).batch(2)
    ),
    "`repeat` after `flat_map`": lambda _: (
        even().flat_map(tf.data.Dataset.range).batch(2).repeat()
    ),
    "`repeat` after `interleave`": lambda _: (
        even()
        .interleave(tf.data.Dataset.range, num_parallel_calls=2)
        .repeat()
        .batch(2)
    ),
    "`repeat` after `unbatch`": lambda _: (
        even().batch(3).unbatch().batch(2).repeat()
    ),
    "`repeat` after `group_by_window`": lambda _: (
        even()
        .group_by_window(lambda x: x % 2, lambda key, window: window, 2)
        .batch(2)
        .repeat()
    ),
    "`filter` after the mark, `repeat` before it": lambda _: (
        numbers(12)
        .repeat()
        .prefetch(1)
        .apply(tfdp.shard)
        .filter(lambda x: x > 0)
        .batch(2)
    ),
    "`interleave` after the mark, `repeat` before it": lambda _: (
        numbers(12)
        .repeat()
        .shuffle(12)
        .apply(tfdp.shard)
        .interleave(tf.data.Dataset.range)
        .batch(2)
    ),
}


@pytest.mark.parametrize("received", REFUSED)
def test_what_would_not_be_one_devices_is_refused(second_of_two, received):
    dataset = REFUSED[received](numbers().apply(tfdp.shard))
    with pytest.raises(ValueError, match=received):
        pipeline(dataset, SECOND_OF_TWO)


def test_a_mark_of_another_strategy_is_refused(second_of_two):
    dataset = numbers().apply(tfdp.shard).batch(2)
    with pytest.raises(ValueError, match=r"index=1.*; this is .*index=0"):
        pipeline(dataset, Membership(0, 1))


def positive(number):
    return number > 0


def test_what_keeps_the_order_is_taken(second_of_two):
    twelve = numbers(12).apply(tfdp.shard)
    zipped = tf.data.Dataset.zip(twelve, twelve)
    pairs = tf.data.Dataset.from_tensor_slices(tf.zeros((6, 2)))
    pairs = pairs.apply(tfdp.shard)
    drawn = tf.data.Dataset.random(1)
    for dataset, samples in [
        (
            numbers().repeat().apply(tfdp.shard).batch(4, drop_remainder=True),
            -1,
        ),
        (
            numbers()
            .repeat()
            .apply(tfdp.shard)
            .batch(4, drop_remainder=True)
            .unbatch()
            .batch(4),
            -1,
        ),
        (twelve.repeat(3).batch(4), 18),
        (twelve.batch(4).cache().repeat(2).prefetch(1), 12),
        (twelve.batch(4).repeat(), -1),
        (twelve.shuffle(3).repeat(2).batch(4).repeat(), -1),
        # Rows are not those of the marks: twice as many.
        (pairs.unbatch().batch(4).repeat(2), 12),
        # Each pass ends on its own; drawn without end, there are no passes.
        (numbers(12).repeat(2).apply(tfdp.shard).filter(positive).batch(4), -2),
        (drawn.apply(tfdp.shard).filter(positive).batch(4), -2),
        (zipped.batch(4, num_parallel_calls=2).map(lambda x, y: x), 6),
        (twelve.filter(lambda x: x > 0).shuffle(4).padded_batch(4), -2),
    ]:
        assert pipeline(dataset, SECOND_OF_TWO) == (4, samples)


def test_files_that_own_samples_are_cached_in_are_found(second_of_two):
    marked = numbers().cache("of all").apply(tfdp.shard)
    assert cache_files(marked.cache().batch(2)) == []
    zipped = tf.data.Dataset.zip(marked.cache("b").map(abs), marked)
    assert cache_files(zipped.batch(2).cache("a").prefetch(1)) == ["a", "b"]
