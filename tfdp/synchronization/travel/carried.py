"""Sums over workers that travel by a carrier, and not by TensorFlow."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfdp.step import Gradient
from tfdp.strategy import Carrier
from tfdp.synchronization.travel.packs import Packed, num_bytes

# What is less TensorFlow carries as fast, or faster.
_WORTH_IT = 2**21


def carried(tensors: Sequence[Gradient]) -> list[int]:
    """Returns the places of those tensors that a carrier takes.

    They are the same on all workers, as a graph knows the shapes. A carrier
    takes dense tensors of float32, and none where they are less than 2 MiB
    together: gloo adds numbers of 16 bits up by software, and knows no
    bfloat16.

    Args:
        tensors: What is to be added up.

    Example:

    >>> rows = tf.IndexedSlices(tf.zeros((2, 2)), tf.constant([0, 1]))
    >>> large, small = tf.zeros((1024, 1024)), tf.zeros(2)
    >>> carried([large, rows, small]), carried([small])
    ([0, 2], [])
    """
    places = [
        place
        for place, each in enumerate(tensors)
        if num_bytes(each) and each.dtype == tf.float32
    ]
    size = sum(num_bytes(tensors[place]) for place in places)
    return places if size >= _WORTH_IT else []


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
    packed = Packed(tensors, sum(map(num_bytes, tensors)))
    messages = packed.tensors[::-1]
    with tf.control_dependencies([carrier.turn.assign_add(1)]):
        turn = tf.no_op()
    journey = _Journey(carrier)
    tickets: list[tf.Tensor] = []
    for place, message in enumerate(messages):
        with tf.control_dependencies([turn, *tickets[-1:]]):
            ticket = tf.numpy_function(
                journey.leave, [place, message], tf.int64
            )
        ticket.set_shape(())
        tickets.append(ticket)
    # Run eagerly, one result is no list.
    arrived = tf.nest.flatten(
        tf.numpy_function(journey.arrive, tickets, [tf.float32] * len(messages))
    )
    with tf.control_dependencies([arrived[0]]):
        carrier.turn.assign_add(0)
    for total, message in zip(arrived, messages, strict=True):
        total.set_shape(message.shape)
    return packed.unpacked(arrived[::-1])


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
