"""What is seen in the graph of a step: what depends on what, and how.

It knows the names that TensorFlow gives operations and their types, which have
contracts in `tests/step/test_graphs.py`.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tfdp.upstream.tensorflow import tf_functions

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
_BRANCHING = {"Case", "If", "While"}
_CHANGES = ("Assign", "ResourceScatter", "ResourceStridedSliceAssign")
_READING = {"ReadVariableOp", "ResourceGather", "ResourceGatherNd"}
_READING |= {"VarIsInitializedOp", "VariableShape"}
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
    handles = {ref: id(out) for ref, out in _outsides(resources).items()}
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
                    any(map(is_computed, _inputs(o))) for o in each.outputs
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
            for graph in graphs:
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
                if is_loop and len(results) == 1 < len(found):
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


def outside(tensor: tf.Tensor) -> tf.Tensor:
    """Returns what a tensor of a graph stands for outside of it."""
    return _outsides([tensor])[tensor.ref()]


def _outsides(tensors: Iterable[tf.Tensor]) -> dict[Any, tf.Tensor]:
    """Returns what tensors of a graph stand for outside of it, by reference."""
    found = {each.ref(): each for each in tensors}
    inside = dict(found)
    while inside:
        graph = getattr(next(iter(inside.values())), "graph", None)
        captures = getattr(graph, "captures", ())
        outer = {inner.ref(): out for out, inner in captures}
        inside = {
            key: outer[each.ref()]
            for key, each in inside.items()
            if each.ref() in outer
        }
        found |= inside
        inside = {
            key: each
            for key, each in inside.items()
            if not hasattr(each, "numpy")
        }
    return found


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
