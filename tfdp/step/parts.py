"""What a step makes of one replica's part of a batch, and should of all.

Replicas come together where the optimizer adds up their gradients. What a layer
keeps of a batch, and what a step computes with gradients before, is of a part
alone. Nothing can mend that from outside, but the graph of a step shows it.
"""

import contextlib
import dataclasses
import threading
import warnings
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfdp.step.division import divisions
from tfdp.step.gradients import Gradient
from tfdp.step.graphs import (
    Assignment,
    Gradients,
    assignments,
    counts,
    leads,
)
from tfdp.step.waiting import tensors_in
from tfdp.upstream.keras import inspection, keras_models
from tfdp.upstream.tensorflow import tf_replicas

_slot = threading.local()
_told: weakref.WeakKeyDictionary[keras.Model, set[str]] = (
    weakref.WeakKeyDictionary()
)


@dataclasses.dataclass
class _Part:
    """What is noted of a replica's step.

    Attributes:
        model: The model that is trained.
        graph: The graph of the step.
        data: References of the tensors that it was called with.
        begin: How many operations the graph had before.
        accumulates: Whether what all replicas have is a part, too.
        of_all: References of what replicas have made together, if not.
        gradients: What optimizers were given.
        logs: What is logged, by name.
        updates: Operations of optimizers, from and up to a place.
    """

    model: keras.Model
    graph: tf.Graph
    data: set[Any]
    begin: int
    accumulates: bool
    of_all: set[Any] = dataclasses.field(default_factory=set)
    updates: list[range] = dataclasses.field(default_factory=list)
    gradients: list[Gradient] = dataclasses.field(default_factory=list)
    logs: list[tuple[str, tf.Tensor]] = dataclasses.field(default_factory=list)

    def note(self, result: Any) -> None:
        """Notes what replicas have made together."""
        if not self.accumulates:
            self.of_all.update(each.ref() for each in tensors_in(result))

    def assignments(self) -> list[Assignment]:
        """Returns what the step changes, but for its optimizers."""
        operations = [
            each
            for i, each in enumerate(self.graph.get_operations())
            if i >= self.begin
            and not any(i in update for update in self.updates)
        ]
        return list(assignments(operations))

    def is_of_data(self, tensors: Sequence[tf.Tensor]) -> bool:
        """Whether tensors depend on the samples of this replica."""
        return leads(lambda each: each.ref() in self.data, tensors, self.of_all)


@contextlib.contextmanager
def looked_at(model: keras.Model, data: Any) -> Iterator[None]:
    """Tells of what a step of training makes of a part of its batch.

    Args:
        model: The model that the step, in the context, trains.
        data: What it is called with.
    """
    before = _part()
    _slot.part = None
    if not tf.executing_eagerly() and _is_first_here() and _is_apart(model):
        graph = tf.compat.v1.get_default_graph()
        _slot.part = _Part(
            model,
            graph,
            {each.ref() for each in tensors_in(data)},
            len(graph.get_operations()),
            _accumulates(model),
        )
    try:
        if _slot.part is None:
            yield
            return
        with tf_replicas.noting_results(_slot.part.note):
            yield
        _look(_slot.part)
    finally:
        _slot.part = before


@contextlib.contextmanager
def updating(gradients: Sequence[Gradient]) -> Iterator[None]:
    """Says that what happens in the context is the work of an optimizer.

    Args:
        gradients: What it was given.
    """
    part = _part()
    graph = tf.compat.v1.get_default_graph() if part else None
    if part is None or graph is not part.graph:
        yield
        return
    part.gradients.extend(gradients)
    begin = len(graph.get_operations())
    yield
    part.updates.append(range(begin, len(graph.get_operations())))


def logging(values: Any) -> None:
    """Says what a step logs.

    Args:
        values: By name, or something else, which is left alone.
    """
    part = _part()
    if part is not None and isinstance(values, Mapping):
        part.logs.extend(
            (name, value)
            for name, value in values.items()
            if isinstance(value, tf.Tensor) and value.graph is part.graph
        )


def _look(part: _Part) -> None:
    _look_at_variables(part)
    given = [
        each.values if isinstance(each, tf.IndexedSlices) else each
        for each in part.gradients
    ]
    taken = Gradients(given, part.of_all)
    for gradient in given:
        operation = taken.not_linear(gradient)
        if operation is not None:
            _tell_changed(part.model, operation)
    for operation, value in taken.added:
        if _is_undivided(part, value):
            _tell_added(part.model, operation)
    for name, value in part.logs:
        if not part.accumulates and taken.lead(value):
            _tell_logged(part.model, name)


def _is_undivided(part: _Part, value: tf.Tensor) -> bool:
    noted = divisions()
    if noted is None or noted.lost or part.is_of_data([value]):
        return False
    numbers = {each.ref() for each in noted.tensors}
    return not leads(lambda each: each.ref() in numbers, [value])


def _look_at_variables(part: _Part) -> None:
    kept, moved = _kept(part.model), _moved(part.model)
    for each in part.assignments():
        name = kept.get(id(each.variable)) or moved.get(id(each.variable))
        if name is None:
            continue
        is_kept = id(each.variable) in kept
        if part.is_of_data(each.values):
            (_tell_kept if is_kept else _tell_moved)(part.model, name)
        elif is_kept and part.accumulates and not counts(each):
            _tell_micro_batches(part.model, name)


def _tell_kept(model: keras.Model, name: str) -> None:
    if _accumulates(model):
        received = "in each micro-batch, by its own part of it"
        way_out = "Use accumulation_steps=1 and"
    else:
        received = "by its own part of the batch"
        way_out = "In the place of a tensor `x` of the batch"
    _tell(
        model,
        "What a layer keeps of a batch must be of the whole batch. Received: "
        f"{name}, which each replica moves {received}, so that training "
        "differs from that of one device; copies are averaged at the end of "
        f"an epoch. {way_out} compute it from the rows of all replicas, "
        "`tfdp.gather(keras.ops.stop_gradient(x))`.",
    )


def _tell_micro_batches(model: keras.Model, name: str) -> None:
    _tell(
        model,
        "While gradients accumulate, a layer's state should move once per "
        f"update. Received: {name}, which moves in every micro-batch. Use "
        "accumulation_steps=1, or accept that it differs from that of one "
        "large batch.",
    )


def _tell_moved(model: keras.Model, name: str) -> None:
    _tell(
        model,
        "Weights must be moved by what all replicas have found together. "
        f"Received: {name}, which a step assigns, without an optimizer, what "
        "each replica has computed of its own part of the batch. Add up "
        "first what it is computed from, such as gradients of a loss that is "
        "divided by the number of replicas: `tf.distribute."
        "get_replica_context().all_reduce('SUM', gradients)`, which is the "
        "batch's where all replicas have as many samples, and gradients do "
        "not accumulate.",
    )


def _tell_changed(model: keras.Model, operation: str) -> None:
    _tell(
        model,
        "What a step makes of gradients, before an optimizer is given them, "
        "must be the same for their mean. Received: a step of "
        f"{type(model).__name__} with `{operation}` in between, which is "
        "computed of the gradient of a part of the batch. Leave it to the "
        "inner optimizer, which is given the mean: clipping to `clipnorm`, "
        "`global_clipnorm` or `clipvalue`, and anything else to an "
        "`apply(self, grads, trainable_variables=None)` of a class of your "
        "own.",
    )


def _tell_added(model: keras.Model, operation: str) -> None:
    _tell(
        model,
        "What a step adds to a gradient must be divided by the number of "
        "replicas, as its loss is. Received: a step of "
        f"{type(model).__name__} which adds, by `{operation}`, what is not, "
        "and too large by that number, unless it was asked for elsewhere. "
        "Divide it by `tf.distribute."
        "get_strategy().num_replicas_in_sync`, or, for one, leave weight "
        "decay to `weight_decay` of the inner optimizer.",
    )


def _tell_logged(model: keras.Model, name: str) -> None:
    _tell(
        model,
        "What a step logs of gradients must be of all replicas'. Received: "
        f"`{name}` of {type(model).__name__}, which each replica computes of "
        "its own gradient. Compute it of `tf.distribute.get_replica_context()."
        "all_reduce('SUM', gradients)`: where the loss is divided by the "
        "number of replicas, and all have as many samples, that is the "
        "gradient of the batch.",
    )


def _tell(model: keras.Model, message: str) -> None:
    rule = message.partition(".")[0]
    told = _told.setdefault(model, set())
    if rule not in told:
        told.add(rule)
        warnings.warn(message, stacklevel=2)


def _kept(model: keras.Model) -> dict[int, str]:
    """Names what layers keep, by handle; batch statistics left out."""
    return {
        handle: name
        for layer in (model, *inspection.layers(model))
        if not isinstance(layer, keras.layers.BatchNormalization)
        for handle, name in _named(
            keras_models.own_non_trainable_weights(layer),
            f" of {type(layer).__name__}",
        ).items()
    }


def _moved(model: keras.Model) -> dict[int, str]:
    """Names what takes gradients, frozen or not, by handle."""
    kept = {
        id(weight)
        for layer in (model, *inspection.layers(model))
        for weight in keras_models.own_non_trainable_weights(layer)
    }
    return _named(w for w in model.weights if id(w) not in kept)


def _named(
    weights: Iterable[keras.Variable], suffix: str = ""
) -> dict[int, str]:
    strategy = tf.distribute.get_strategy()
    names = {}
    for weight in weights:
        # Otherwise TensorFlow aggregates it whenever it is assigned.
        if weight.aggregation == "none":
            first, *_ = strategy.experimental_local_results(weight.value)
            if isinstance(first, tf.Variable):  # Not one still to be made.
                names[id(first.handle)] = f"`{weight.path}`{suffix}"
    return names


def _part() -> _Part | None:
    return getattr(_slot, "part", None)


def _is_first_here() -> bool:
    context = tf.distribute.get_replica_context()
    replicas = context.num_replicas_in_sync
    here = replicas // getattr(context.strategy, "num_workers", 1)
    place = tf.get_static_value(context.replica_id_in_sync_group)
    return place is not None and int(place) % here == 0


def _is_apart(model: keras.Model) -> bool:
    context = tf.distribute.get_replica_context()
    return context.num_replicas_in_sync > 1 or _accumulates(model)


def _accumulates(model: keras.Model) -> bool:
    return any(
        getattr(each, "accumulation_steps", 1) > 1
        for each in inspection.optimizers(model)
    )
