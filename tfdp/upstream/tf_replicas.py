"""How the replicas of one process take turns.

A doorway to private names of TensorFlow, each of which has a contract in
`tests/upstream/test_tf_replicas.py`.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from tfdp.upstream.private import Member

_merge_call = Member(
    "_merge_call",
    serves="what layers keep of one replica would be found by another",
)


@contextlib.contextmanager
def around_turns(
    pausing: contextlib.AbstractContextManager[Any],
) -> Iterator[None]:
    """Enters a context whenever the replica at work lets others go on.

    Replicas of one process are threads, of which one runs at a time, until it
    asks for something that concerns all of them.

    Args:
        pausing: Entered before others go on, and left when it is the turn of
            this replica again; as often as that happens.
    """
    context = tf.distribute.get_replica_context()
    merge_call = _merge_call.of(context)

    def pause(*args: Any) -> Any:
        with pausing:
            return merge_call(*args)

    _merge_call.replace(context, pause)
    try:
        yield
    finally:
        delattr(context, _merge_call.name)


@contextlib.contextmanager
def noting_results(note: Callable[[Any], None]) -> Iterator[None]:
    """Has what replicas make together noted, on the replica at work.

    Args:
        note: Called with what each reduction, or gathering, has returned.
    """
    context = tf.distribute.get_replica_context()
    merge_call = _merge_call.of(context)
    is_replaced = _merge_call.name in vars(context)

    def noted(*args: Any) -> Any:
        result = merge_call(*args)
        note(result)
        return result

    _merge_call.replace(context, noted)
    try:
        yield
    finally:
        if is_replaced:
            _merge_call.replace(context, merge_call)
        else:
            delattr(context, _merge_call.name)
