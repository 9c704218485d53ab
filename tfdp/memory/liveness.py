"""How much memory a graph needs at a time, from the sizes of its tensors."""

import collections
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tfdp.memory.kernels import IN_PLACE, REORDER, SAME, are_rows
from tfdp.memory.order import ordered
from tfdp.upstream.tensorflow import tf_functions

_CALLS = {"PartitionedCall", "StatefulPartitionedCall"}
_BRANCHES = {"Case", "If", "StatelessCase", "StatelessIf"}
_LOOPS = {"StatelessWhile", "While"}


class Held(NamedTuple):
    """A tensor that is in use.

    Attributes:
        bytes: Its size.
        kind: The operation that has made it; empty for the room of kernels.
        shape: Its shape.
    """

    bytes: int
    kind: str
    shape: tuple[int | None, ...]


class Peak(NamedTuple):
    """The moment at which most memory is in use.

    Attributes:
        bytes: How much.
        held: What holds it.
    """

    bytes: int
    held: list[Held]


@dataclasses.dataclass
class _Step:
    """An operation that is carried out."""

    name: str
    kind: str
    inputs: list[int]
    outputs: list[int]
    device: str
    inside: int = 0
    after: set[int] = dataclasses.field(default_factory=set)


class Liveness:
    """Carries out a graph on paper: first come, first served, as TensorFlow.

    A tensor is in use from the operation that makes it to the end of the last
    one that needs it. Variables are not counted. What a loop keeps for its
    gradient counts with all its turns, as far as these are known; an axis of
    unknown length, as long as that of what it is made of. Of several devices
    the one counts that needs most.

    Args:
        graph: Of a concrete function, with batches of known sizes.
        at_once: How many operations run at a time.
    """

    def __init__(self, graph: Any, at_once: int = 1) -> None:
        self._at_once = at_once
        self._steps: list[_Step] = []
        self._sizes: list[int] = []
        self._shapes: list[tuple[int, ...]] = []
        self._tensors: list[Any] = []
        self._storage: list[int] = []
        given = {each.ref(): self._new(each) for each in graph.inputs}
        done: dict[str, set[int]] = {}
        self._add(graph, given, set(), done)
        self._kept = {
            self._storage[given[each.ref()]]
            for each in graph.outputs
            if each.ref() in given
        }

    def _new(
        self, tensor: Any, made_of: Sequence[int] = (), *, is_read: bool = False
    ) -> int:
        shape = self._shape(tensor, [self._shapes[i] for i in made_of])
        self._shapes.append(shape)
        self._sizes.append(0 if is_read else _bytes(tensor, shape))
        self._tensors.append(tensor)
        self._storage.append(len(self._storage))
        return len(self._sizes) - 1

    def _shape(
        self, tensor: Any, made_of: Sequence[tuple[int, ...]]
    ) -> tuple[int, ...]:
        """Returns a shape without unknown axes: as long as those it is of."""
        if tensor.shape.rank is None:
            return max(made_of, key=math.prod, default=())

        def longest(axis: int) -> int:
            return max((s[axis] for s in made_of if len(s) > axis), default=1)

        return tuple(
            longest(axis) if length is None else length
            for axis, length in enumerate(tensor.shape.as_list())
        )

    def _add(
        self,
        graph: Any,
        given: dict[Any, int],
        after: set[int],
        done: dict[str, set[int]],
        device: str = "",
    ) -> None:
        """Adds the operations of a graph, and of what it calls."""
        for op in ordered(graph):
            if op.type == "Placeholder":
                continue
            inputs = [given[each.ref()] for each in op.inputs]
            waits = set(after)
            for each in op.control_inputs:
                waits |= done.get(each.name, set())
            if op.type in _CALLS:
                inner = tf_functions.called(op)
                within = dict(
                    zip((t.ref() for t in inner.inputs), inputs, strict=True)
                )
                first = len(self._steps)
                self._add(inner, within, waits, {}, op.device or device)
                for outer, inside in zip(
                    op.outputs, inner.outputs, strict=True
                ):
                    given[outer.ref()] = within[inside.ref()]
                done[op.name] = set(range(first, len(self._steps)))
                continue
            outputs = []
            for place, each in enumerate(op.outputs):
                # A variable is read where it is.
                is_read = op.type == "ReadVariableOp"
                found = self._new(each, inputs, is_read=is_read)
                shapes = [self._shapes[i] for i in inputs]
                if op.type in SAME or are_rows(op, shapes):
                    source = inputs[place if op.type == "IdentityN" else 0]
                    self._storage[found] = self._storage[source]
                given[each.ref()] = found
                outputs.append(found)
            where = (op.device or device).rpartition("/")[2].lower()
            step = _Step(op.name, op.type, inputs, outputs, where, after=waits)
            if op.type in REORDER:
                # In the order of the kernel, which is another.
                step.inside = sum(self._sizes[i] for i in inputs + outputs)
            if op.type in _BRANCHES | _LOOPS:
                self._look_inside(op, step)
            done[op.name] = {len(self._steps)}
            self._steps.append(step)

    def _look_inside(self, op: Any, step: _Step) -> None:
        bodies = tf_functions.bodies(op)
        step.inside = max(
            Liveness(body, self._at_once).peak().bytes for body in bodies
        )
        if op.type not in _LOOPS:
            return
        body = bodies[-1]
        for place, (outer, inside) in enumerate(
            zip(op.outputs, body.outputs, strict=True)
        ):
            if outer.dtype != tf.variant:
                continue
            source = inside.op
            while source.type == "Identity":
                source = source.inputs[0].op
            if source.type in ("TensorListPushBack", "TensorListSetItem"):
                element = source.inputs[-1]
                if element.op.type != "ReadVariableOp":
                    size = _turns(op) * _bytes(
                        element, self._shape(element, ())
                    )
                    self._sizes[step.outputs[place]] = size

    def peak(self) -> Peak:
        """Returns the moment at which most memory is in use."""
        makers: dict[int, int] = {}
        for place, step in enumerate(self._steps):
            for each in step.outputs:
                makers[each] = place
        waiting = []
        followers: dict[int, list[int]] = collections.defaultdict(list)
        uses: collections.Counter[int] = collections.Counter()
        for place, step in enumerate(self._steps):
            needs = {makers[i] for i in step.inputs if i in makers} | step.after
            needs.discard(place)
            waiting.append(len(needs))
            for each in needs:
                followers[each].append(place)
            for each in {self._storage[i] for i in step.inputs}:
                uses[each] += 1
        ready = collections.deque(
            place for place, count in enumerate(waiting) if not count
        )
        memory = _Memory()
        while ready:
            count = min(len(ready), self._at_once)
            together = [ready.popleft() for _ in range(count)]
            room: collections.Counter[str] = collections.Counter()
            for place in together:
                step = self._steps[place]
                # Kernels that need room use all threads, one after the other.
                room[step.device] = max(room[step.device], step.inside)
                self._begin(step, memory, uses)
            memory.look(room)
            for place in together:
                self._end(self._steps[place], memory, uses)
                for each in followers[place]:
                    waiting[each] -= 1
                    if not waiting[each]:
                        ready.append(each)
        found = [self._held(each, size) for each, size in memory.held.items()]
        return Peak(memory.most, [*found, Held(memory.room, "", ())])

    def _begin(
        self, step: _Step, memory: "_Memory", uses: Mapping[int, int]
    ) -> None:
        given = map(self._storage.__getitem__, step.inputs)
        dying = {each for each in given if uses[each] == 1}
        for each in step.outputs:
            if self._storage[each] != each:
                continue
            size = self._sizes[each]
            if step.kind in IN_PLACE:
                over = next((s for s in dying if memory.has(s, size)), None)
                if over is not None:
                    dying.discard(over)
                    memory.free(over)
            memory.take(each, size, step.device)

    def _end(
        self, step: _Step, memory: "_Memory", uses: dict[int, int]
    ) -> None:
        given = {self._storage[i] for i in step.inputs}
        for each in given:
            uses[each] -= 1
        for each in given.union(self._storage[i] for i in step.outputs):
            if not uses[each] and each not in self._kept:
                memory.free(each)

    def _held(self, place: int, size: int) -> Held:
        tensor = self._tensors[place]
        shape = tensor.shape
        dims = () if shape.rank is None else tuple(shape.as_list())
        return Held(size, tensor.op.type, dims)


class _Memory:
    """What is in use on each device, and what was, where it was most."""

    def __init__(self) -> None:
        self.most = self.room = 0
        self.held: dict[int, int] = {}
        self._live: dict[int, tuple[int, str]] = {}
        self._now: collections.Counter[str] = collections.Counter()

    def has(self, tensor: int, size: int) -> bool:
        return tensor in self._live and self._live[tensor][0] == size

    def take(self, tensor: int, size: int, device: str) -> None:
        self._live[tensor] = size, device
        self._now[device] += size

    def free(self, tensor: int) -> None:
        size, device = self._live.pop(tensor, (0, ""))
        self._now[device] -= size

    def look(self, room: Mapping[str, int]) -> None:
        for device, inside in room.items():
            if self._now[device] + inside > self.most:
                self.most, self.room = self._now[device] + inside, inside
                self.held = {
                    tensor: size
                    for tensor, (size, where) in self._live.items()
                    if where == device
                }


def _bytes(tensor: Any, shape: Sequence[int]) -> int:
    if tensor.dtype in (tf.resource, tf.variant, tf.string):
        return 0
    return math.prod(shape) * tensor.dtype.size


def _turns(op: Any) -> int:
    """Returns how often a loop turns, as far as what it is given says so."""
    known = [1]
    for each in op.inputs:
        found = None
        if each.op.type == "TensorListReserve":
            found = tf.get_static_value(each.op.inputs[1])
        elif each.op.type == "TensorListFromTensor":
            found = each.op.inputs[0].shape[0]
        elif each.dtype.is_integer and each.shape.rank == 0:
            found = tf.get_static_value(each)
        known.append(int(found or 0))
    return max(known)
