"""What a graph assigns to variables."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import tensorflow as tf

from tfdp.step.graphs.dependence import behind, outside, reads

_CHANGES = ("Assign", "ResourceScatter", "ResourceStridedSliceAssign")
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
        if each.type.startswith(_CHANGES):
            yield Assignment(outside(each.inputs[0]), each)


def counts(assignment: Assignment) -> bool:
    """Whether a variable is changed by what is always the same, or not."""
    read = reads(assignment.values)
    if not read:
        return True
    return read == {id(assignment.variable)} and all(
        each.op.type in _COUNTING for each in behind(assignment.values)
    )
