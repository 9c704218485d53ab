"""How many samples a batch of a pipeline has."""

import pytest
import tensorflow as tf

from tfdp.cluster import membership
from tfdp.data.mark import marked
from tfdp.data.micro_batch import micro_batch_of

SAMPLES = tf.data.Dataset.range(24)


def nothing(x):
    return x


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (lambda d: d.batch(4), 4),
        (lambda d: d.batch(4, drop_remainder=True, num_parallel_calls=2), 4),
        (lambda d: d.padded_batch(4), 4),
        (lambda d: d.batch(8).unbatch().batch(4).map(nothing).cache(), 4),
        (lambda d: d.batch(4).map(nothing, 2).shuffle(3).repeat(2).take(3), 4),
        (lambda d: d.batch(4).skip(1).shard(2, 0).prefetch(1), 4),
        (lambda d: d.batch(4).filter(lambda x: True), 4),
        (lambda d: d.batch(2).batch(3), 3),
        (lambda d: tf.data.Dataset.zip(d.batch(4), d.batch(4)), 4),
        (lambda d: tf.data.Dataset.zip(d.batch(4), d.batch(3)), None),
        (lambda d: d.batch(4).concatenate(d.batch(4)), 4),
        (lambda d: d.batch(4).concatenate(d.batch(3)), None),
        (lambda d: d, None),
        (lambda d: d.batch(4).rebatch(2), None),
        (lambda d: d.batch(4).unbatch(), None),
        (lambda d: d.flat_map(lambda x: SAMPLES.batch(4)), None),
        (lambda d: d.ragged_batch(4), 4),
    ],
)
def test_what_batch_says_counts_unless_something_changes_it(make, size):
    assert micro_batch_of(make(SAMPLES)) == size


def test_samples_that_workers_share_out_are_batched_for_all(monkeypatch):
    monkeypatch.setattr(membership, "_joined", [])
    membership.join(membership.Membership(1, 2))
    assert micro_batch_of(marked(SAMPLES).batch(8).prefetch(1)) == 8
