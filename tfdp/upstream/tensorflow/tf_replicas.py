"""How the replicas of one process take turns, and what goes on without them.

A doorway to private names of TensorFlow, each of which has a contract in
`tests/upstream/test_tf_replicas.py`.
"""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import tensorflow as tf

from tfdp.upstream.private import Member

_merge_call = Member(
    "_merge_call",
    serves="what layers keep of one replica would be found by another",
)

Result = TypeVar("Result")


@tf.autograph.experimental.do_not_convert
def without_strategy(
    fn: Callable[[], Result], device: str | None = None
) -> Result:
    """Calls a function where there is no strategy, in the same graph.

    TensorFlow keeps the strategies in scope by graph and thread, so that a new
    thread has none. What is done there waits for what the caller waits for.

    Args:
        fn: What to call.
        device: The device to call it on. Defaults to `None`, TensorFlow's
            choice.

    Returns:
        What it returned.
    """
    graph = None
    awaited = []
    if not tf.executing_eagerly():
        graph = tf.compat.v1.get_default_graph()
        awaited = [tf.no_op()]

    @tf.autograph.experimental.do_not_convert
    def call() -> Result:
        with contextlib.ExitStack() as stack:
            if graph is not None:
                stack.enter_context(graph.as_default())
                stack.enter_context(tf.control_dependencies(awaited))
            stack.enter_context(tf.device(device))
            return fn()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(call).result()


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
def never_meeting(refuse: Callable[..., Any]) -> Iterator[None]:
    """Has the replica at work call a function in place of meeting others.

    Args:
        refuse: Called as what would have been called.
    """
    context = tf.distribute.get_replica_context()
    if context is None:
        yield
        return
    _merge_call.check(context)
    names = (_merge_call.name, "all_reduce", "all_gather")
    held = vars(context)
    before = {name: held[name] for name in names if name in held}
    held.update(dict.fromkeys(names, refuse))
    try:
        yield
    finally:
        for name in names:
            del held[name]
        held.update(before)


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
