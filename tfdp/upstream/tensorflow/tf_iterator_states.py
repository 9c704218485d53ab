"""Where an iterator over a dataset is.

A doorway to private names of TensorFlow, each of which has a contract in
`tests/upstream/test_tf_iterator_states.py`.
"""

from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from tfdp.upstream.private import Member

_iterator_resource = Member(
    "_iterator_resource",
    serves="what a lost worker leaves of shuffled data cannot be read again",
)
# As `tf.data.experimental.ExternalStatePolicy` has it, in C++.
_IGNORE_STATE = 1


def state(iterator: Iterator[Any]) -> tf.Tensor | None:
    """Returns the state of an iterator; `None` where it has none to be kept.

    Args:
        iterator: One of a `tf.data.Dataset`. Of one that has yielded nothing
            yet the state is small, whatever it shuffles.
    """
    try:
        return tf.raw_ops.SerializeIterator(
            resource_handle=_iterator_resource.of(iterator),
            external_state_policy=_IGNORE_STATE,
        )
    except tf.errors.OpError:
        return None


def restore(iterator: Iterator[Any], kept: tf.Tensor) -> None:
    """Has an iterator go on from where another one of its dataset was.

    The next iterator of the dataset shuffles as if this one had not been made.

    Args:
        iterator: One of the same `tf.data.Dataset`.
        kept: The other one's `state`.
    """
    tf.raw_ops.DeserializeIterator(
        resource_handle=_iterator_resource.of(iterator), serialized=kept
    )
