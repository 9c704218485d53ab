"""What XLA can compile.

A doorway to private names of TensorFlow, each of which has a contract in
`tests/upstream/test_tf_compilation.py`.
"""

import functools
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from tfdp.upstream.private import Name

_registered_kernels = Name(
    "tensorflow.python.framework.kernels.get_all_registered_kernels",
    serves="a layer that XLA cannot compile is not named",
)
_ARGUMENT = "Placeholder"


@functools.cache
def compilable_types() -> frozenset[str]:
    """Returns the types of operations that XLA has kernels for."""
    with tf.init_scope():
        # The first of them has TensorFlow register all.
        tf.function(lambda: tf.constant(0) + 1, jit_compile=True)()
    return frozenset(
        kernel.op
        for kernel in _registered_kernels.find()().kernel
        if "XLA" in kernel.device_type and "JIT" in kernel.device_type
    )


def not_compilable(function: Any) -> Iterator[tuple[str, str]]:
    """Finds what XLA has no kernels for.

    Args:
        function: A concrete function.

    Yields:
        Type and name of an operation.
    """
    graph = function.graph.as_graph_def()
    inner = graph.library.function
    known = compilable_types() | {each.signature.name for each in inner}
    for nodes in (graph.node, *(each.node_def for each in inner)):
        for node in nodes:
            if node.op not in known and node.op != _ARGUMENT:
                yield node.op, node.name
