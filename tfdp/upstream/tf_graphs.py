"""What is seen in the graph of a step: what depends on what, and how.

It knows the names that TensorFlow gives operations and their types, which have
contracts in `tests/upstream/test_tf_graphs.py`.
"""

from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any, NamedTuple

import tensorflow as tf

_COUNTING = {"Add", "AddV2", "Cast", "Const", "Identity", "Placeholder", "Sub"}
_COUNTING |= {"ReadVariableOp"}


class Assignment(NamedTuple):
    """A variable that a graph changes.

    Attributes:
        variable: The handle of the variable, as it is outside of the graph.
        operation: What changes it.
    """

    variable: tf.Tensor
    operation: tf.Operation

    @property
    def values(self) -> list[tf.Tensor]:
        """What it is changed by."""
        return list(self.operation.inputs)[1:]


def assignments(operations: Iterable[tf.Operation]) -> Iterator[Assignment]:
    """Finds the variables that operations of a graph change."""
    for each in operations:
        if each.type.startswith(("Assign", "ResourceScatter")):
            yield Assignment(outside(each.inputs[0]), each)


def outside(tensor: tf.Tensor) -> tf.Tensor:
    """Returns what a tensor of a graph stands for outside of it."""
    graph = getattr(tensor, "graph", None)
    while (captures := getattr(graph, "captures", None)) is not None:
        found = [
            out for out, inside in captures if inside.ref() == tensor.ref()
        ]
        if not found:
            break
        (tensor,) = found
        graph = None if hasattr(tensor, "numpy") else tensor.graph
    return tensor


def leads(
    is_source: Callable[[tf.Tensor], bool],
    tensors: Iterable[tf.Tensor],
    known: Container[Any] = (),
) -> bool:
    """Whether tensors of a graph are computed from others.

    Args:
        is_source: Whether a tensor is one of the others.
        tensors: The tensors.
        known: References of tensors that count as computed from nothing.
    """
    return any(map(is_source, _behind(tensors, known)))


def reads(tensors: Iterable[tf.Tensor]) -> set[int]:
    """Returns identities of the variables' handles behind tensors."""
    return {
        id(outside(each))
        for each in _behind(tensors)
        if each.dtype == tf.resource
    }


def counts(assignment: Assignment) -> bool:
    """Whether a variable is changed by what is always the same, or not."""
    behind = reads(assignment.values)
    if not behind:
        return True
    return behind == {id(assignment.variable)} and all(
        each.op.type in _COUNTING for each in _behind(assignment.values)
    )


def _behind(
    tensors: Iterable[tf.Tensor],
    known: Container[Any] = (),
) -> Iterator[tf.Tensor]:
    seen: set[Any] = set()
    rest = list(tensors)
    while rest:
        at = rest.pop()
        if at.ref() not in seen and at.ref() not in known:
            seen.add(at.ref())
            yield at
            rest.extend(_inputs(at))


def _inputs(tensor: tf.Tensor) -> list[tf.Tensor]:
    """Returns what a tensor is computed from."""
    inputs = list(tensor.op.inputs)
    if tensor.op.type == "IdentityN":
        # Of a function with a gradient of its own: results, and arguments.
        return [inputs[tensor.value_index]]
    return inputs
