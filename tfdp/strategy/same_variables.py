"""Variables are made by all workers together, or it is told by name."""

import contextlib
from typing import Any

import tensorflow as tf

# What TensorFlow says where two workers come to one place with two variables.
_SIGNS = "in the collective instance", "Collective instance"


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


def _named(arguments: dict[str, Any]) -> str:
    value = arguments.get("initial_value")
    value = value() if callable(value) else value
    tensor = tf.convert_to_tensor(value, arguments.get("dtype"))
    name = arguments.get("name") or "a variable"
    return f"{name!r} of shape {tuple(tensor.shape)}, {tensor.dtype.name},"
