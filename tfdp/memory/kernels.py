"""What TensorFlow's kernels do with the memory of what they are given."""

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

# What an operation returns is what it was given, in the same memory.
_SAME_TYPES = """
    Bitcast CheckNumerics EnsureShape ExpandDims Identity IdentityN
    PreventGradient Reshape Snapshot Squeeze StopGradient
    TensorListFromTensor
"""
SAME = set(_SAME_TYPES.split())
# What it returns may be written over what it was given, if nobody else needs
# that.
_IN_PLACE_TYPES = """
    Abs Acos Acosh Add AddN AddV2 Asin Asinh Atan Atan2 Atanh BiasAdd Ceil
    ClipByValue Cos Cosh Digamma Div DivNoNan Elu EluGrad Erf Erfc Erfinv Exp
    Expm1 Floor FloorDiv FloorMod Inv LeakyRelu LeakyReluGrad Lgamma Log Log1p
    LogSoftmax LogicalAnd LogicalNot LogicalOr MatrixBandPart Maximum Minimum
    Mul MulNoNan Ndtri Neg OnesLike Pow RealDiv Reciprocal Relu Relu6
    Relu6Grad ReluGrad Rint Round Rsqrt RsqrtGrad Select SelectV2 Selu
    SeluGrad Sigmoid SigmoidGrad Sign Sin Sinh Softmax
    SoftmaxCrossEntropyWithLogits Softplus SoftplusGrad Softsign SoftsignGrad
    SparseSoftmaxCrossEntropyWithLogits Sqrt SqrtGrad Square SquaredDifference
    Sub Tan Tanh TanhGrad TruncateDiv Xdivy Xlog1py Xlogy ZerosLike
"""
IN_PLACE = set(_IN_PLACE_TYPES.split())
_REORDER_TYPES = """
    Conv2DBackpropFilter Conv2DBackpropInput Conv3DBackpropFilterV2
    Conv3DBackpropInputV2 DepthwiseConv2dNativeBackpropFilter
    DepthwiseConv2dNativeBackpropInput Einsum
"""
REORDER = set(_REORDER_TYPES.split())
_ALIGNED = 64


def are_rows(op: Any, shapes: Sequence[tuple[int, ...]]) -> bool:
    """Tells whether an operation returns rows of its input, where they are.

    So it does where rows begin at multiples of what vectors need.

    Args:
        op: The operation.
        shapes: Those of its inputs.
    """
    if op.type == "StridedSlice":
        others = (1 << (op.inputs[1].shape[0] or 0)) - 2
        whole = op.get_attr("begin_mask") & op.get_attr("end_mask")
        strides = tf.get_static_value(op.inputs[3])
        is_along_rows = (
            not op.get_attr("new_axis_mask")
            and not op.get_attr("ellipsis_mask")
            and whole & others == others
            and strides is not None
            and all(strides == 1)
        )
    else:
        is_along_rows = op.type == "Unpack" and op.get_attr("axis") == 0
    row = math.prod(shapes[0][1:]) * op.inputs[0].dtype.size if shapes else 1
    return is_along_rows and not row % _ALIGNED
