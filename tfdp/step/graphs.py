"""What is seen in the graph of a step: what depends on what, and how.

It knows the names that TensorFlow gives operations and their types, which have
contracts in `tests/step/test_graphs.py`.
"""

from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any, NamedTuple

import tensorflow as tf

_TAPES = ("eager/backprop.py", "ops/gradients_util.py")
# By whatever else they take, sums of these are these of sums.
_LINEAR_TYPES = """
    Add AddN AddV2 BroadcastTo Cast CheckNumerics ConcatV2 Conj Cumsum
    DynamicPartition DynamicStitch EnsureShape ExpandDims GatherNd GatherV2
    Identity IdentityN Imag MatrixBandPart MatrixDiagPartV3 MatrixDiagV3 Mean
    Neg Pack Pad PadV2 PreventGradient Real Reshape ReverseV2 Roll ScatterNd
    SegmentSum Slice Snapshot Split SplitV Squeeze StopGradient StridedSlice
    Sub Sum TensorScatterAdd Tile Transpose Unpack UnsortedSegmentSum
"""
_LINEAR = set(_LINEAR_TYPES.split())
_BILINEAR = {"BatchMatMulV2", "BatchMatMulV3", "Einsum", "MatMul", "Mul"}
_BILINEAR |= {"Conv2D", "Conv3D", "DepthwiseConv2dNative"}
_QUOTIENTS = {"Div", "DivNoNan", "MulNoNan", "RealDiv"}
_SUMS = {"Add", "AddN", "AddV2", "Sub"}
_CHOICES = {"Select", "SelectV2"}
_CALLS = {"Case", "EagerPyFunc", "If", "PartitionedCall", "PyFunc", "While"}
# The same for whatever numbers, that of finite ones among them.
_BLIND = {"IsFinite", "IsInf", "IsNan", "OnesLike", "Rank", "Shape", "Size"}
_BLIND |= {"ZerosLike"}
_CHANGES = ("Assign", "ResourceScatter")
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


def moved_by(
    sources: Iterable[Any],
    known: Container[Any],
    operations: Iterable[tf.Operation],
) -> set[int]:
    """Finds the variables that operations change by certain tensors.

    Args:
        sources: References of the tensors.
        known: References of tensors that count as computed from nothing.
        operations: Those of a graph, in the order in which they were made.

    Returns:
        Identities of the variables' handles; of those, too, that a function
        or a branch is given, where no change is seen.
    """
    operations = list(operations)
    handles = {
        each.ref(): id(outside(each))
        for operation in operations
        for each in operation.inputs
        if each.dtype == tf.resource
    }
    changed = {
        handles[each.inputs[0].ref()]
        for each in operations
        if each.type.startswith(_CHANGES)
    }
    found = {
        handles[each.ref()]
        for operation in operations
        if operation.type.endswith(tuple(_CALLS))
        for each in operation.inputs
        if each.dtype == tf.resource
    } - changed
    computed = set(sources)

    def is_computed(tensor: tf.Tensor) -> bool:
        return tensor.ref() in computed or handles.get(tensor.ref()) in found

    size = -1
    while size != len(found):
        size = len(found)
        for each in operations:
            if not each.type.startswith(_CHANGES):
                computed.update(
                    output.ref()
                    for output in each.outputs
                    if output.ref() not in known
                    and any(map(is_computed, _inputs(output)))
                )
            elif any(map(is_computed, list(each.inputs)[1:])):
                found.add(handles[each.inputs[0].ref()])
    return found


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


def is_of_tape(tensor: tf.Tensor) -> bool:
    """Whether a tensor of a graph was made while a gradient was taken."""
    return "gradient_tape" in tensor.op.name.split("/")


class Gradients:
    """Looks from a gradient back to where it was taken.

    Args:
        given: The gradients that optimizers are given; of slices the values.
        known: References of tensors that are the same on all replicas.

    Attributes:
        taken: The gradients, as they were taken.
        added: What is added to them and computed of variables alone, each
            with the name of the operation that does.
    """

    def __init__(
        self, given: Iterable[tf.Tensor], known: Container[Any]
    ) -> None:
        self._shapes = [each.shape for each in given]
        self._known = known
        self.taken: list[tf.Tensor] = []
        self.added: list[tuple[str, tf.Tensor]] = []

    def not_linear(self, gradient: tf.Tensor) -> str | None:
        """Returns the name of an operation that makes no sum of parts.

        Args:
            gradient: One of those that optimizers are given.

        Returns:
            Its name; `None` where the mean of what replicas make of their
            gradients is what is made of the mean, and where that is not known.
        """
        found, taken = None, []
        seen, rest = set(), [gradient]
        while rest:
            at = rest.pop()
            if at.ref() in seen or at.ref() in self._known:
                continue
            seen.add(at.ref())
            if is_of_tape(at):
                taken.append(at)
            elif self._is_of_gradient(at):
                inputs = list(filter(self._is_of_gradient, _inputs(at)))
                if at.op.type.removeprefix("Stateful").removeprefix(
                    "Stateless"
                ) in _CALLS or _is_traced_in_tape(at.op):
                    return None
                if not _is_linear(at.op, inputs):
                    found = found or at.op.name
                elif at.op.type in _SUMS:
                    self.added.extend(
                        (at.op.name, each)
                        for each in _inputs(at)
                        if not self._is_of_gradient(each) and _is_plain(each)
                    )
                rest.extend(inputs)
        self.taken.extend(taken)
        # Those of single samples have an axis more, and are summed later.
        return found if all(map(self._is_whole, taken)) else None

    def lead(self, tensor: tf.Tensor) -> bool:
        """Whether a tensor is computed from one of those taken."""
        wanted = {each.ref() for each in self.taken}
        return leads(lambda t: t.ref() in wanted, [tensor], self._known)

    def _is_whole(self, taken: tf.Tensor) -> bool:
        return taken.shape.rank is not None and any(
            map(taken.shape.is_compatible_with, self._shapes)
        )

    def _is_of_gradient(self, tensor: tf.Tensor) -> bool:
        return any(map(is_of_tape, _behind([tensor], self._known, _BLIND)))


def _is_linear(op: tf.Operation, of_gradient: list[tf.Tensor]) -> bool:
    def place(tensor: tf.Tensor) -> int:
        return [each.ref() for each in op.inputs].index(tensor.ref())

    if op.type in _BILINEAR:
        return len(of_gradient) == 1
    if op.type in _QUOTIENTS:
        return len(of_gradient) == 1 and place(of_gradient[0]) == 0
    if op.type in _CHOICES:
        return all(place(each) > 0 for each in of_gradient)
    return op.type in _LINEAR


def _is_plain(tensor: tf.Tensor) -> bool:
    """Whether a tensor is computed of variables, and nothing by chance."""
    types = {each.op.type for each in _behind([tensor])}
    return "ReadVariableOp" in types and not any(
        "Random" in each or each.endswith(tuple(_CALLS)) for each in types
    )


def _is_traced_in_tape(op: tf.Operation) -> bool:
    return "pfor" in op.name or any(
        frame.filename.endswith(_TAPES) for frame in op.traceback
    )


def _behind(
    tensors: Iterable[tf.Tensor],
    known: Container[Any] = (),
    blind: Container[str] = (),
) -> Iterator[tf.Tensor]:
    seen: set[Any] = set()
    rest = list(tensors)
    while rest:
        at = rest.pop()
        if at.ref() not in seen and at.ref() not in known:
            seen.add(at.ref())
            yield at
            if at.op.type not in blind:
                rest.extend(_inputs(at))


def _inputs(tensor: tf.Tensor) -> list[tf.Tensor]:
    """Returns what a tensor is computed from."""
    inputs = list(tensor.op.inputs)
    if tensor.op.type == "IdentityN":
        # Of a function with a gradient of its own: results, and arguments.
        return [inputs[tensor.value_index]]
    return inputs
