"""Packs leave when their gradients are there, and large ones uncopied."""

import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from tensorflow.python.distribute import cross_device_utils

from tfdp.synchronization.travel import Packed, ready_first

LIMIT = 100 * 4


def packs_of(sizes):
    """The packs that TensorFlow makes, as places, first sent first."""
    tensors = [tf.zeros(size) for size in sizes]
    order = ready_first(tensors, LIMIT)
    assert sorted(order) == list(range(len(sizes)))
    sent = [tf.zeros(sizes[i]) for i in order][::-1]
    packs = cross_device_utils.group_by_size(sent, LIMIT)
    places = iter(order[::-1])
    return [[next(places) for _ in pack] for pack in packs]


@pytest.mark.parametrize(
    ("sizes", "packs"),
    [
        ([], []),
        ([10, 10], [[1, 0]]),
        ([101, 10, 101, 10], [[2], [0], [3, 1]]),
        ([60, 60, 60, 60], [[3, 2], [1, 0]]),
        ([60, 200, 60, 60], [[3, 2], [1], [0]]),
    ],
)
def test_packs(sizes, packs):
    assert packs_of(sizes) == packs


@given(st.lists(st.integers(1, 250), max_size=12))
def test_a_large_gradient_travels_alone(sizes):
    for pack in packs_of(sizes):
        assert len(pack) == 1 or all(sizes[place] <= 100 for place in pack)


def test_what_has_no_known_size_is_sent_too():
    @tf.function
    def order(x):
        slices = tf.IndexedSlices(x, tf.range(2))
        return ready_first([tf.zeros(200), x, slices], LIMIT)

    unknown = tf.TensorSpec((None, 3))
    assert list(order.get_concrete_function(unknown)(tf.zeros((2, 3)))) == [
        1,
        2,
        0,
    ]


def packed_of(tensors):
    packed = Packed(tensors, LIMIT)
    return packed, [each.shape.num_elements() for each in packed.tensors]


@pytest.mark.parametrize(
    ("sizes", "packs"),
    [
        ([], []),
        ([10], [10]),
        ([10, 20], [30]),
        ([60, 60, 60, 60], [120, 120]),
        ([1, 2, 60, 60], [120, 3]),
        ([2**16, 3, 2**16, 4], [7, 2**16, 2**16]),
    ],
)
def test_small_tensors_are_one(sizes, packs):
    assert packed_of([tf.zeros(size) for size in sizes])[1] == packs


def test_what_is_packed_comes_back():
    tensors = [
        tf.reshape(tf.range(6.0), (2, 3)),
        tf.constant(7.0),
        tf.IndexedSlices(
            tf.ones((1, 3)), tf.constant([1]), tf.constant([2, 3])
        ),
        tf.range(5.0),
        tf.constant([1.0, 2.0], tf.float64),
        tf.constant([[3.0]], tf.float64),
        tf.zeros((0, 4)),
    ]
    packed, sizes = packed_of(tensors)
    assert sizes[:2] == [12, 3]
    assert len(sizes) == 3
    for found, tensor in zip(
        packed.unpacked(packed.tensors), tensors, strict=True
    ):
        assert found.dtype == tensor.dtype
        whole, found = map(tf.convert_to_tensor, (tensor, found))
        assert found.shape == whole.shape
        assert (found.numpy() == whole.numpy()).all()
