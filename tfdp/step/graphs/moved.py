"""Which variables a graph moves by the tensors that it is given."""

from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any

import tensorflow as tf

from tfdp.step.graphs.dependence import inputs_of, outsides
from tfdp.upstream.tensorflow import tf_functions

_BRANCHING = {"Case", "If", "While"}
_READING = {"ReadVariableOp", "ResourceGather", "ResourceGatherNd"}
_READING |= {"VarIsInitializedOp", "VariableShape"}


def moved_by(
    sources: Iterable[Any],
    known: Container[Any],
    operations: Sequence[tf.Operation],
) -> set[int]:
    """Finds the variables that operations change by certain tensors.

    Args:
        sources: References of the tensors.
        known: References of tensors that count as computed from nothing.
        operations: Those of a graph, in the order in which they were made.

    Returns:
        Identities of the variables' handles.
    """
    resources = (
        each
        for operation in operations
        for each in operation.inputs
        if each.dtype == tf.resource
    )
    handles = {ref: id(out) for ref, out in outsides(resources).items()}
    moved: set[int] = set()
    size = -1
    while size != len(moved):  # What is moved late may be read early.
        size = len(moved)
        _Spread(moved, known).over(operations, set(sources), handles)
    return moved


class _Spread:
    """Follows tensors through a graph, and the functions that it calls.

    Args:
        moved: Identities of the handles of variables that they move; grows.
        known: References of tensors that count as computed from nothing.
    """

    def __init__(self, moved: set[int], known: Container[Any]) -> None:
        self._moved = moved
        self._known = known

    def over(
        self,
        operations: Iterable[tf.Operation],
        computed: set[Any],
        handles: dict[Any, int],
        *,
        is_chosen: bool = False,
    ) -> None:
        """Adds to `computed` what is, and to what is moved.

        Args:
            operations: Those of one graph.
            computed: References of what is computed from the tensors.
            handles: Identities of variables' handles, by reference.
            is_chosen: Whether the tensors decide if these operations run.
        """

        def is_computed(tensor: tf.Tensor) -> bool:
            at = tensor.ref()
            return at in computed or handles.get(at) in self._moved

        for each in operations:
            inputs = list(each.inputs)
            graphs = _graphs_in(each)
            if graphs:
                found = self._called(each, graphs, is_computed, handles)
            else:
                found = [
                    any(map(is_computed, inputs_of(o))) for o in each.outputs
                ]
            computed.update(
                output.ref()
                for output, is_found in zip(each.outputs, found, strict=False)
                if (is_found or is_chosen) and output.ref() not in self._known
            )
            given = {handles[i.ref()] for i in inputs if i.ref() in handles}
            values = (i for i in inputs if i.ref() not in handles)
            if (
                given
                and not graphs
                and each.type not in _READING
                and (is_chosen or any(map(is_computed, values)))
            ):
                self._moved |= given

    def _called(
        self,
        operation: tf.Operation,
        graphs: Sequence[Any],
        is_computed: Callable[[tf.Tensor], bool],
        handles: dict[Any, int],
    ) -> list[bool]:
        """Returns which results of a call are computed from the tensors."""
        is_loop = operation.type.endswith("While")
        chooses = operation.type.endswith(("If", "Case"))
        arguments = list(operation.inputs)[int(chooses) :]
        is_chosen = chooses and is_computed(operation.inputs[0])
        found = [is_chosen] * len(operation.outputs)
        given = [
            each.ref() not in handles and is_computed(each)
            for each in arguments
        ]
        while True:
            before = list(given)
            for place, graph in enumerate(graphs):
                inside = list(zip(graph.inputs, arguments, strict=False))
                computed = {
                    inner.ref()
                    for (inner, _), is_given in zip(inside, given, strict=False)
                    if is_given
                }
                names = {
                    inner.ref(): handles[outer.ref()]
                    for inner, outer in inside
                    if outer.ref() in handles
                }
                self.over(
                    graph.get_operations(), computed, names, is_chosen=is_chosen
                )
                results = [each.ref() in computed for each in graph.outputs]
                if is_loop and place == 0:
                    is_chosen |= results[0]  # How often it goes around.
                else:
                    found = [
                        a or b for a, b in zip(found, results, strict=False)
                    ]
            if not is_loop:
                return found
            given = [a or b for a, b in zip(given, found, strict=True)]
            if given == before:
                return [each or is_chosen for each in found]


def _graphs_in(operation: tf.Operation) -> list[Any]:
    """Returns the graphs that an operation runs, in the order of its kind."""
    kind = operation.type.removeprefix("Stateless")
    if operation.type.endswith("PartitionedCall"):
        return [tf_functions.called(operation)]
    return tf_functions.bodies(operation) if kind in _BRANCHING else []
