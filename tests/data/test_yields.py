"""Generators that yield otherwise on a worker are found out."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

import tfdp
from tfdp.agreement import check_same_yields
from tfdp.agreement import yields as agreement
from tfdp.cluster import membership as memberships
from tfdp.cluster.membership import Membership, join
from tfdp.data import Yields, yields


@dataclasses.dataclass
class Worker:
    num_workers: int = 2
    worker_index: int = 0


def generated(*elements):
    return tf.data.Dataset.from_generator(
        lambda: iter(elements), output_signature=tf.TensorSpec((), tf.int64)
    )


def of(*iterations, is_ended=True):
    noted = Yields()
    for number, elements in enumerate(iterations):
        for element in elements:
            noted.heard(number, [np.asarray(element)])
        if is_ended:
            noted.ended(number)
    return [noted]


@pytest.fixture
def check(monkeypatch):
    """Has workers whose generators have yielded this compare it."""

    def check(*workers):
        state = {}

        def gather(_, value):
            if "digests" not in state:
                state["digests"] = True
                counts = [
                    [list(y.counts().items()) for y in w] for w in workers
                ]
                state["places"] = agreement._known_to_all(counts)
                return counts
            return [
                [w[which].digest(*place) for which, place in state["places"]]
                for w in workers
            ]

        monkeypatch.setattr(agreement, "gather_objects", gather)
        check_same_yields(Worker(len(workers)), workers[0])

    return check


@pytest.mark.parametrize(
    "workers",
    [
        (of([1, 2, 3]), of([1, 2, 3])),
        # One has read ahead, into another iteration.
        (of([1, 2], is_ended=False), of([1, 2, 3], [4])),
        (of([1, 2, 3], [4]), of([1, 2, 3], [4], [5])),
        (of(["a", b"b"]), of(["a", b"b"])),
        # Some has begun none yet.
        (of(), of([1])),
        # The last iterations of one are too far on to be known of both.
        (of([1], [2]), of([1], [2], [3], [4], [5], [6])),
    ],
)
def test_the_same_is_taken(check, workers):
    check(*workers)
    check(*reversed(workers))


@pytest.mark.parametrize(
    "other",
    [
        of([2, 1, 3]),
        of([1, 3], is_ended=False),
        of([1, 2]),
        of([1, 2, 3, 4]),
        of([1, 2, 3], [5]),
        of([[1], [2], [3]]),
    ],
)
def test_something_else_is_refused(check, other):
    with pytest.raises(ValueError, match="the chief's on worker 1") as caught:
        check(of([1, 2, 3], [4]), other)
    assert "`np.random.default_rng(seed)`" in str(caught.value)


def test_what_generators_yield_before_workers_part_is_noted(monkeypatch):
    monkeypatch.setattr(memberships, "_joined", [])
    join(Membership(1, 2))
    one, other = generated(1, 2), generated(3, 4)
    zipped = tf.data.Dataset.zip(one.map(abs), other)
    own = zipped.apply(tfdp.shard).map(lambda x, y: x + y).batch(2)
    noted = yields(own)
    assert [n.counts() for n in noted] == [{}, {}]
    assert [b.tolist() for b in own.as_numpy_iterator()] == [[6]]
    # The end, too.
    assert [n.counts() for n in noted] == [{0: 3}, {0: 3}]
    assert yields(zipped.batch(2)) == noted
    assert yields(tf.data.Dataset.range(2)) == []


def test_large_elements_and_many_iterations_take_little(check):
    large = np.zeros((300, 300))
    changed = large.copy()
    changed[1:] = 1
    with pytest.raises(ValueError, match="on worker 1"):
        check(of([large]), of([changed]))
    (noted,) = of(*[[1]] * 9)
    assert noted.counts() == {5: 2, 6: 2, 7: 2, 8: 2}
