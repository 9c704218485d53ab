"""Sums over workers that travel by a carrier, and not by TensorFlow."""

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfdp.step import Gradient
from tfdp.strategy import Carrier

# Smaller ones share a message; and alone they are none worth sending.
_LARGE = 256 * 1024


def carried(tensors: Sequence[Gradient]) -> list[int]:
    """Returns the places of those tensors that a carrier takes.

    They are the same on all workers, as a graph knows the shapes. A carrier
    takes dense tensors of float32, and none where they are small together:
    gloo adds numbers of 16 bits up by software, and knows no bfloat16.

    Args:
        tensors: What is to be added up.

    Example:

    >>> rows = tf.IndexedSlices(tf.zeros((2, 2)), tf.constant([0, 1]))
    >>> large, small = tf.zeros((512, 256)), tf.zeros(2)
    >>> carried([large, rows, small]), carried([small])
    ([0, 2], [])
    """
    places = [
        place
        for place, each in enumerate(tensors)
        if not isinstance(each, tf.IndexedSlices)
        and each.dtype == tf.float32
        and each.shape.num_elements()
    ]
    size = sum(_size(tensors[place]) for place in places)
    return places if size > _LARGE else []


def sums_by(carrier: Carrier, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Adds up tensors over workers; once on each of them.

    The last one leaves first, as the backward pass makes it first, and while
    that goes on. Small ones leave as one, at the end.

    Args:
        carrier: The carrier of this worker.
        tensors: What `carried` has chosen, of this worker.

    Returns:
        The sums.
    """
    messages = _messages(tensors)
    with tf.control_dependencies([carrier.turn.assign_add(1)]):
        turn = tf.no_op()
    journey = _Journey(carrier)
    tickets: list[tf.Tensor] = []
    for places in messages:
        with tf.control_dependencies([turn, *tickets[-1:]]):
            message = _packed([tensors[place] for place in places])
            tickets.append(
                tf.numpy_function(
                    journey.leave, [len(tickets), message], tf.int64
                )
            )
    # Run eagerly, one result is no list.
    arrived = tf.nest.flatten(
        tf.numpy_function(journey.arrive, tickets, [tf.float32] * len(messages))
    )
    with tf.control_dependencies([arrived[0]]):
        carrier.turn.assign_add(0)
    sums: dict[int, tf.Tensor] = {}
    for places, message in zip(messages, arrived, strict=True):
        parts = _unpacked(message, [tensors[place] for place in places])
        sums.update(zip(places, parts, strict=True))
    return [sums[place] for place in range(len(tensors))]


class _Journey:
    """What one place of a graph sends, again and again."""

    def __init__(self, carrier: Carrier) -> None:
        self._courier = carrier.courier
        self._sums: dict[int, np.ndarray] = {}

    def leave(self, place: np.ndarray, values: np.ndarray) -> np.int64:
        ticket, self._sums[int(place)] = self._courier.take(values)
        return np.int64(ticket)

    def arrive(self, *tickets: np.ndarray) -> list[np.ndarray]:
        self._courier.wait(int(max(tickets)))
        sums, self._sums = self._sums, {}
        return [sums[place] for place in range(len(tickets))]


def _messages(tensors: Sequence[tf.Tensor]) -> list[list[int]]:
    """Places of what leaves together, in the order to leave in."""
    is_large = [_size(each) > _LARGE for each in tensors]
    large = [[place] for place, large in enumerate(is_large) if large]
    small = [place for place, large in enumerate(is_large) if not large]
    return large[::-1] + ([small] if small else [])


def _packed(tensors: list[tf.Tensor]) -> tf.Tensor:
    if len(tensors) == 1:
        return tensors[0]
    return tf.concat([tf.reshape(each, [-1]) for each in tensors], 0)


def _unpacked(message: tf.Tensor, like: list[tf.Tensor]) -> list[tf.Tensor]:
    if len(like) == 1:
        return [tf.ensure_shape(message, like[0].shape)]
    message.set_shape([sum(_count(each) for each in like)])
    parts = tf.split(message, [_count(each) for each in like])
    return [
        tf.reshape(part, each.shape)
        for part, each in zip(parts, like, strict=True)
    ]


def _count(tensor: tf.Tensor) -> int:
    return math.prod(tensor.shape)


def _size(tensor: tf.Tensor) -> int:
    return _count(tensor) * tensor.dtype.size
