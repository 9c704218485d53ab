"""What TensorFlow makes of Python functions.

A doorway to private names of TensorFlow, each of which has a contract in
`tests/upstream/test_tf_functions.py`.
"""

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import tensorflow as tf

from tfdp.upstream.private import Member, Name

_BRANCHES = (
    "a Python `if` on a tensor would fail in a function given to a tfdp "
    "strategy's `run`"
)
_OPTIONS = "a `tf.function` given to a tfdp strategy's `run` loses its options"
_autograph_context = Name(
    "tensorflow.python.autograph.core.ag_ctx", serves=_BRANCHES
)
_control_status = Name(
    "tensorflow.__internal__.autograph.control_status_ctx", serves=_BRANCHES
)
_tf_convert = Name(
    "tensorflow.__internal__.autograph.tf_convert", serves=_BRANCHES
)
_make_decorator = Name(
    "tensorflow.__internal__.decorator.make_decorator", serves=_OPTIONS
)
_autograph = Member("_autograph", serves=_BRANCHES)
_clone = Member("_clone", serves=_OPTIONS)
_context_class = Member("ControlStatusCtx", serves=_BRANCHES)
_status = Member("Status", serves=_BRANCHES)
_get_function = Member(
    "_get_function", serves="memory is not estimated, which depends on them"
)
_BODIES = {"If": ("then_branch", "else_branch"), "While": ("cond", "body")}
_func_graph = Name(
    "tensorflow.__internal__.FuncGraph",
    serves="a model that its own step builds would have to say that it is "
    "built",
)


def is_tf_function(fn: Callable[..., Any]) -> bool:
    """Whether `fn` was made by `tf.function`."""
    return isinstance(fn, tf.types.experimental.PolymorphicFunction)


def wrapped_inside(
    function: Any, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> Any:
    """Returns a copy of a `tf.function` that traces its function wrapped.

    `Strategy.run` treats a `tf.function` in a way of its own, and the public
    API offers no way to read its options, which the copy keeps.
    """
    inside = function.python_function
    if _autograph.of(function):
        context = _autograph_context.find()
        enabled = _context_class.of(context)(_status.of(context).ENABLED)
        inside = _tf_convert.find()(inside, enabled)
    wrapped = wrap(inside)
    clone = _clone.of(function)(python_function=wrapped)
    return _make_decorator.find()(wrapped, clone)


def own_words(error: BaseException, package: str) -> BaseException | None:
    """Returns the error that a package raised while a function was traced.

    AutoGraph and Keras make another one of it, whose message begins with twenty
    lines about where the function was called.

    Args:
        error: What the traced function has raised.
        package: Name of the package, such as `"tfdp"`.

    Returns:
        The error as it was raised, which AutoGraph will leave alone, or `None`
        where somebody else raised it.
    """
    first = error
    # Who repeats what it was told of adds only where that was.
    while (cause := first.__context__) and str(cause):
        if str(cause) not in str(first):
            break
        first = cause
    frame, last = first.__traceback__, None
    while frame is not None:
        frame, last = frame.tb_next, frame
    name = last.tb_frame.f_globals.get("__name__", "") if last else ""
    if name.split(".")[0] != package:
        return None
    first.ag_pass_through = True  # type: ignore[attr-defined]
    if hasattr(first, "ag_error_metadata"):
        del first.ag_error_metadata
    return first


def converted_by_autograph(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `fn` as `Strategy.run` would convert it at this call."""
    return _tf_convert.find()(
        fn, _control_status.find()(), convert_by_default=False
    )


@contextlib.contextmanager
def never_executed() -> Iterator[None]:
    """Gathers operations in a graph that is thrown away.

    Variables made meanwhile stay, with their values.
    """

    def lifted(
        next_creator: Callable[..., tf.Variable], **arguments: Any
    ) -> Any:
        with tf.init_scope():
            return next_creator(**arguments)

    with (
        _func_graph.find()("never_executed").as_default(),
        tf.variable_creator_scope(lifted),
    ):
        yield


def is_random(function: Any) -> bool:
    """Whether a concrete function draws random numbers."""
    graph = function.graph.as_graph_def()
    drawing = ("Random", "TruncatedNormal", "Multinomial")
    return any(
        name in node.op
        for nodes in (graph.node, *(f.node_def for f in graph.library.function))
        for node in nodes
        for name in drawing
    )


def dtype_hint(depth: int = 1) -> tf.DType | None:
    """Returns the type that TensorFlow would like a number to have.

    Args:
        depth: How many frames above the caller of this function the number is
            made a tensor.
    """
    return sys._getframe(depth + 1).f_locals.get("preferred_dtype")


def is_eager(tensor: tf.Tensor) -> bool:
    """Whether a tensor is a value, and no part of a graph."""
    return not hasattr(tensor, "op") or tf.executing_eagerly()


def scalars_lead(sources: Iterable[tf.Tensor], tensor: tf.Tensor) -> bool:
    """Whether a tensor of a graph is computed from others by scalars alone."""
    wanted = {each.ref() for each in sources}
    seen = set()
    rest = [tensor]
    while rest:
        at = rest.pop()
        if at.ref() in wanted:
            return True
        if at.shape.rank == 0 and at.ref() not in seen:
            seen.add(at.ref())
            rest.extend(at.op.inputs)
    return False


def computed_again(
    tensor: tf.Tensor,
    instead: dict[Any, tf.Tensor],
    most: int,
    kept: Iterable[tf.Tensor] = (),
) -> tf.Tensor | None:
    """Computes a tensor of a graph with other tensors in the place of some.

    Args:
        tensor: The tensor.
        instead: By reference of a tensor of the same graph, what to take in
            its place.
        most: How many operations may be made for it.
        kept: What stays as it is, whatever it was computed from.

    Returns:
        The tensor itself where none of those has a part in it; `None` where
        it takes too many operations, or one that has effects.
    """
    order = _affected(
        tensor.op,
        {key.deref().op for key in instead},
        {each.op for each in kept},
    )
    if len(order) > most or any(op.op_def.is_stateful for op in order):
        return None
    made = dict(instead)
    for op in order:
        with tf.device(op.device), tf.control_dependencies(None):
            again = op.graph.create_op(
                op.type,
                [made.get(each.ref(), each) for each in op.inputs],
                [each.dtype for each in op.outputs],
                attrs=dict(op.node_def.attr),
            )
        made.update(
            (old.ref(), new)
            for old, new in zip(op.outputs, again.outputs, strict=True)
        )
    return made.get(tensor.ref(), tensor)


def _affected(
    op: tf.Operation, changed: set[tf.Operation], kept: set[tf.Operation]
) -> list[tf.Operation]:
    """Returns the operations up to `op` with changed inputs, in their order."""
    is_affected = {**dict.fromkeys(kept, False), **dict.fromkeys(changed, True)}
    order = []
    stack = [(op, False)]
    while stack:
        at, is_done = stack.pop()
        if is_done:
            is_affected[at] = any(
                is_affected.get(each.op, False) for each in at.inputs
            )
            if is_affected[at]:
                order.append(at)
        elif at not in is_affected:
            is_affected[at] = False
            stack.append((at, True))
            stack.extend((each.op, False) for each in at.inputs)
    return order


def called(op: tf.Operation) -> Any:
    """Returns the graph of the function that an operation calls."""
    return _graph_of(op, op.get_attr("f"))


def bodies(op: tf.Operation) -> list[Any]:
    """Returns the graphs that an `If`, a `Case` or a `While` may run.

    Args:
        op: One of these.

    Returns:
        The branches; of a `While` its condition and its body.
    """
    kind = op.type.removeprefix("Stateless")
    if kind == "Case":
        functions = op.get_attr("branches")
    else:
        functions = map(op.get_attr, _BODIES[kind])
    return [_graph_of(op, each) for each in functions]


def _graph_of(op: tf.Operation, function: Any) -> Any:
    return _get_function.of(op.graph)(function.name).graph
