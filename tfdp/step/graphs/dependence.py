"""What tensors of a graph are computed from, and stand for outside of it."""

from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any

import tensorflow as tf


def outside(tensor: tf.Tensor) -> tf.Tensor:
    """Returns what a tensor of a graph stands for outside of it."""
    return outsides([tensor])[tensor.ref()]


def outsides(tensors: Iterable[tf.Tensor]) -> dict[Any, tf.Tensor]:
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
    return any(map(is_source, behind(tensors, known)))


def reads(tensors: Iterable[tf.Tensor]) -> set[int]:
    """Returns identities of the variables' handles behind tensors."""
    return {
        id(outside(each))
        for each in behind(tensors)
        if each.dtype == tf.resource
    }


def behind(
    tensors: Iterable[tf.Tensor],
    known: Container[Any] = (),
    blind: Container[str] = (),
) -> Iterator[tf.Tensor]:
    """Yields tensors, and all that they are computed from.

    Args:
        tensors: Those of a graph.
        known: References of tensors that count as computed from nothing.
        blind: Types of operations whose results tell nothing of their inputs.
    """
    seen: set[Any] = set()
    rest = list(tensors)
    while rest:
        at = rest.pop()
        if at.ref() not in seen and at.ref() not in known:
            seen.add(at.ref())
            yield at
            if at.op.type not in blind:
                rest.extend(inputs_of(at))


def inputs_of(tensor: tf.Tensor) -> list[tf.Tensor]:
    """Returns what a tensor is computed from."""
    inputs = list(tensor.op.inputs)
    if tensor.op.type == "IdentityN":
        # Of a function with a gradient of its own: results, and arguments.
        return [inputs[tensor.value_index]]
    return inputs
