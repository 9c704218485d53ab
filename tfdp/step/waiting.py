"""Steps that wait for their data, and so for whether there is any.

Where a dataset does not say how long it is, a step is begun that finds no data
and ends with an error. TensorFlow runs whatever is ready: what in such a step
needs no data, as a counter, would have moved by then.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import tensorflow as tf

_TENSORS = (tf.Tensor, tf.SparseTensor, tf.RaggedTensor)


def tensors_in(structure: Any) -> list[tf.Tensor]:
    """Returns the dense tensors that a structure consists of.

    Those of sparse and ragged tensors too; variables and constants are none.
    """
    return [
        part
        for each in tf.nest.flatten(structure)
        if isinstance(each, _TENSORS)
        for part in tf.nest.flatten(each, expand_composites=True)
    ]


def waiting_for(
    structure: Any,
) -> contextlib.AbstractContextManager[Any]:
    """Makes all that is done in its context wait for tensors.

    Args:
        structure: Tensors, or structures of them, as a step is called with.
    """
    tensors = tensors_in(structure)
    if tf.executing_eagerly() or not tensors:
        return contextlib.nullcontext()
    return tf.control_dependencies([tf.group(*tensors)])


def call_for_each_replica(
    strategy: tf.distribute.Strategy,
    fn: Callable[..., Any],
    args: tuple[Any, ...] = (),
) -> Any:
    """Calls a function on every replica, from cross-replica context.

    Its replicas wait for what the caller waits for: they are threads, which
    TensorFlow starts without.

    Args:
        strategy: The strategy at work.
        fn: What to call.
        args: What to call it with, distributed values among them.

    Returns:
        What `fn` returned, as distributed values.
    """
    if tf.executing_eagerly():
        return strategy.extended.call_for_each_replica(fn, args=args)
    awaited = tf.no_op()

    @tf.autograph.experimental.do_not_convert
    def waiting(*args: Any) -> Any:
        with tf.control_dependencies([awaited]):
            return fn(*args)

    return strategy.extended.call_for_each_replica(waiting, args=args)
