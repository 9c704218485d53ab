"""What TensorFlow makes of Python functions.

A doorway to private names of TensorFlow, each of which has a contract in
`tests/upstream/test_tf_functions.py`.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.autograph.core import ag_ctx as _ag_ctx
from tensorflow.python.distribute.input_lib import (
    DistributedDataset as DistributedDataset,
)
from tensorflow.python.eager.polymorphic_function.polymorphic_function import (
    Function as _Function,
)


def is_tf_function(fn: Callable[..., Any]) -> bool:
    """Whether `fn` was made by `tf.function`."""
    return isinstance(fn, _Function)


def wrapped_inside(
    function: Any, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> Any:
    """Returns a copy of a `tf.function` that traces its function wrapped.

    `Strategy.run` treats a `tf.function` in a way of its own, and the public
    API offers no way to read its options, which the copy keeps.
    """
    inside = function.python_function
    if function._autograph:
        enabled = _ag_ctx.ControlStatusCtx(_ag_ctx.Status.ENABLED)
        inside = tf.__internal__.autograph.tf_convert(inside, enabled)
    wrapped = wrap(inside)
    clone = function._clone(python_function=wrapped)
    return tf.__internal__.decorator.make_decorator(wrapped, clone)


def converted_by_autograph(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `fn` as `Strategy.run` would convert it at this call."""
    autograph = tf.__internal__.autograph
    return autograph.tf_convert(
        fn, autograph.control_status_ctx(), convert_by_default=False
    )
