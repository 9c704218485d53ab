"""Variables are made by all workers together, or it is told by name."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfdp.agreement import broadcast, check_same
from tfdp.upstream.keras import keras_variables
from tfdp.upstream.tensorflow import tf_runtime

# What TensorFlow says where two workers come to one place with two variables.
_SIGNS = "in the collective instance", "Collective instance"
# Of what types TensorFlow's workers send each other the values.
_SENT = {tf.bool, tf.float16, tf.float32, tf.float64, tf.int32, tf.int64}


def naming_other_variables(
    worker_index: int,
) -> contextlib.AbstractContextManager[None]:
    """Names variables made in its context, where another worker has others.

    Args:
        worker_index: Which worker this is.

    Raises:
        tf.errors.OpError: Of the kind that TensorFlow raises.
    """

    def creator(next_creator: Any, **arguments: Any) -> tf.Variable:
        try:
            return next_creator(**arguments)
        except (
            tf.errors.InternalError,
            tf.errors.InvalidArgumentError,
        ) as error:
            if not any(sign in error.message for sign in _SIGNS):
                raise
            raise type(error)(
                error.node_def,
                error.op,
                "Every worker must make the same variables in the same order. "
                f"Received: {_named(arguments)} on worker {worker_index}, at a "
                "place where another worker has made another, or none. Run the "
                "same program, with the same model, optimizer, arguments and "
                "versions, on every worker. "
                f"TensorFlow says: {error.message}",
            ) from error

    return tf.variable_creator_scope(creator)


def sending_any_type(
    strategy: tf.distribute.MultiWorkerMirroredStrategy,
) -> contextlib.AbstractContextManager[None]:
    """Makes variables of any type in its context, bfloat16 among them.

    Args:
        strategy: The strategy, whose workers send the chief's initial values.
    """

    def creator(next_creator: Any, **arguments: Any) -> tf.Variable:
        value = arguments["initial_value"]
        dtype = arguments.get("dtype") or getattr(value, "dtype", tf.float32)
        if tf.as_dtype(dtype) in _SENT or not tf.executing_eagerly():
            return next_creator(**arguments)
        value = value() if callable(value) else value
        chiefs = broadcast(strategy, tf.convert_to_tensor(value, dtype).numpy())
        arguments["initial_value"] = tf.convert_to_tensor(chiefs, dtype)
        with tf_runtime.making_variables_alone(strategy):
            return next_creator(**arguments)

    return tf.variable_creator_scope(creator)


@contextlib.contextmanager
def filling_alone(
    strategy: tf.distribute.Strategy,
    optimizer: keras.optimizers.Optimizer,
    variables: Sequence[keras.Variable],
) -> Iterator[None]:
    """Makes slots that begin as zeros, in its context, on each worker alone.

    TensorFlow sends the initial value of each from the chief as it is made,
    which takes longer than anything else about it. Workers meet once instead,
    to compare what the slots are for. In a graph, or on replicas, all is as
    ever.

    Args:
        strategy: The strategy in whose scope the slots are made.
        optimizer: Whose slots they are.
        variables: What they are for.

    Raises:
        RuntimeError: On every worker, if one of these is another elsewhere.
    """
    if (
        getattr(strategy, "num_workers", 1) == 1
        or not tf.executing_eagerly()
        or not tf.distribute.in_cross_replica_context()
    ):
        yield
        return
    check_same(
        strategy,
        {
            "optimizer": type(optimizer).__name__,
            "trained weights": [
                f"{tuple(v.shape)} {v.dtype}" for v in variables
            ],
        },
    )

    def creator(next_creator: Any, **arguments: Any) -> tf.Variable:
        if not keras_variables.is_filled_by_keras(arguments["initial_value"]):
            return next_creator(**arguments)
        with tf_runtime.making_variables_alone(strategy):
            return next_creator(**arguments)

    with tf.variable_creator_scope(creator):
        yield


def _named(arguments: dict[str, Any]) -> str:
    value = arguments.get("initial_value")
    value = value() if callable(value) else value
    tensor = tf.convert_to_tensor(value, arguments.get("dtype"))
    name = arguments.get("name") or "a variable"
    return f"{name!r} of shape {tuple(tensor.shape)}, {tensor.dtype.name},"
