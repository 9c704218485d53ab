"""Where workers would read in orders of their own, it is mended or refused."""

import random
import time

import pytest
import tensorflow as tf

import tfdp
from tfdp.cluster import membership as memberships
from tfdp.cluster.membership import Membership, join
from tfdp.data import in_one_order

FREE = {"num_parallel_calls": 8, "deterministic": False}
one = tf.data.Dataset.from_tensors


@pytest.fixture
def second_of_two(monkeypatch):
    monkeypatch.setattr(memberships, "_joined", [])
    join(Membership(1, 2))


def numbers():
    return tf.data.Dataset.range(24)


def late(number):
    time.sleep(random.random() / 50)
    return number


def slowly(number):
    return tf.numpy_function(late, [number], tf.int64)


REFUSED = {
    "map": lambda data: data.map(abs, **FREE),
    "interleave": lambda data: data.interleave(one, **FREE),
    "flat_map": lambda data: data.flat_map(lambda x: one(x).map(abs, **FREE)),
    "batch": lambda data: data.batch(2, **FREE).unbatch(),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_keep_the_order_is_refused_before_workers_part(
    second_of_two, name
):
    leaves = REFUSED[name](numbers())
    own = leaves.prefetch(1).apply(tfdp.shard).batch(2)
    received = rf"`{name}\(..., deterministic=False\)` before `tfdp.shard`\."
    with pytest.raises(ValueError, match=received):
        in_one_order(own)
    with pytest.raises(ValueError, match="must read the samples in the same"):
        in_one_order(leaves.batch(2))
    with pytest.raises(ValueError, match="before `shard`"):
        in_one_order(leaves.shard(2, 1).batch(2), has_own_shards=True)
    after = REFUSED[name](numbers().apply(tfdp.shard)).batch(2)
    assert in_one_order(after) is after
    after = REFUSED[name](numbers().shard(2, 1)).batch(2)
    assert in_one_order(after, has_own_shards=True) is after
    assert in_one_order(leaves, has_own_shards=True) is leaves


@pytest.mark.parametrize("is_split", [True, False])
def test_the_option_not_to_keep_it_is_taken_back(second_of_two, is_split):
    free = tf.data.Options()
    free.deterministic = False
    data = numbers().map(slowly, num_parallel_calls=8).with_options(free)
    data = data.apply(tfdp.shard) if is_split else data
    kept = list(in_one_order(data.batch(24)).unbatch().as_numpy_iterator())
    assert kept == list(range(24))[is_split :: 1 + is_split]


def test_what_keeps_the_order_is_left_as_it_is(second_of_two):
    data = numbers().map(abs, num_parallel_calls=8).shuffle(4).batch(2)
    assert in_one_order(data) is data
