"""In which order the operations of a graph are carried out."""

import collections
import heapq
from collections.abc import Iterator
from typing import Any

_PURE = {"ReadVariableOp", "Placeholder", "VariableShape"}


def ordered(graph: Any) -> Iterator[Any]:
    """Yields what is needed: first come, first served, but inputs before.

    A loop gets inputs that are made after it, once its gradient is taken.

    Args:
        graph: Of a concrete function.
    """
    needed = _needed(graph)
    operations = graph.get_operations()
    places = {op.name: i for i, op in enumerate(operations)}
    waiting: dict[int, int] = {}
    followers: dict[int, list[int]] = collections.defaultdict(list)
    for place, op in enumerate(operations):
        if op.name in needed:
            before = {places[each.op.name] for each in op.inputs}
            before |= {places[each.name] for each in op.control_inputs}
            waiting[place] = len(before)
            for each in before:
                followers[each].append(place)
    ready = [place for place, count in waiting.items() if not count]
    while ready:
        place = heapq.heappop(ready)
        yield operations[place]
        for each in followers[place]:
            waiting[each] -= 1
            if not waiting[each]:
                heapq.heappush(ready, each)


def _needed(graph: Any) -> set[str]:
    """Returns the names of operations that something comes of."""
    rest = [each.op for each in graph.outputs]
    rest += graph.control_outputs
    rest += [
        op
        for op in graph.get_operations()
        if op.op_def is not None
        and op.op_def.is_stateful
        and op.type not in _PURE
        and not op.type.startswith(("Random", "Stateless"))
    ]
    seen: set[str] = set()
    while rest:
        op = rest.pop()
        if op.name not in seen:
            seen.add(op.name)
            rest += [each.op for each in op.inputs]
            rest += op.control_inputs
    return seen
