"""What is made of gradients between a tape and an optimizer."""

from collections.abc import Container, Iterable
from typing import Any

import tensorflow as tf

from tfdp.step.graphs.dependence import behind, inputs_of, leads

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
                inputs = list(filter(self._is_of_gradient, inputs_of(at)))
                if at.op.type.removeprefix("Stateful").removeprefix(
                    "Stateless"
                ) in _CALLS or _is_traced_in_tape(at.op):
                    return None
                if not _is_linear(at.op, inputs):
                    found = found or at.op.name
                elif at.op.type in _SUMS:
                    self.added.extend(
                        (at.op.name, each)
                        for each in inputs_of(at)
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
        return any(map(is_of_tape, behind([tensor], self._known, _BLIND)))


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
    types = {each.op.type for each in behind([tensor])}
    return "ReadVariableOp" in types and not any(
        "Random" in each or each.endswith(tuple(_CALLS)) for each in types
    )


def _is_traced_in_tape(op: tf.Operation) -> bool:
    return "pfor" in op.name or any(
        frame.filename.endswith(_TAPES) for frame in op.traceback
    )
