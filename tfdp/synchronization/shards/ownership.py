"""Which slots an optimizer keeps for which variable, and who owns them."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfdp.upstream.keras import keras_optimizers
from tfdp.upstream.tensorflow.tf_replicas import without_strategy


class SlotPlan(NamedTuple):
    """What is known of a slot before it is made.

    Attributes:
        path: Its name in plain Keras.
        shape: Its shape.
        dtype: Its type, by name.
        place: Place of the variable that it belongs to; `None` for what
            belongs to all of them.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    place: int | None

    @property
    def bytes(self) -> int:
        """Bytes of its values."""
        return math.prod(self.shape) * tf.as_dtype(self.dtype).size


def planned_slots(
    optimizer: keras.optimizers.Optimizer,
    variables: Sequence[keras.Variable],
) -> list[SlotPlan]:
    """Says which slots an optimizer would keep, without memory for them.

    Args:
        optimizer: An optimizer that is not built.
        variables: What it would train.

    Returns:
        The slots, in the order in which plain Keras saves them.
    """

    def plan() -> list[SlotPlan]:
        copy = keras_optimizers.copy_of(optimizer)
        # A graph that is never run.
        with tf.Graph().as_default():
            alike = [keras_optimizers.stand_in(v, None) for v in variables]
            return [
                SlotPlan(slot.path, tuple(slot.shape), str(slot.dtype), place)
                for slot, place in built_slots(copy, alike)
            ]

    return without_strategy(plan)


def built_slots(
    optimizer: keras.optimizers.Optimizer,
    variables: Sequence[keras.Variable],
) -> list[tuple[keras.Variable, int | None]]:
    """Builds an optimizer, and tells whose the slots are.

    A slot belongs to the variable that it was made from, or that the optimizer
    was looking at when it made it.

    Args:
        optimizer: An optimizer that is not built.
        variables: What it trains.

    Returns:
        Each slot, and the place of its variable.
    """
    looked_at = _LookedAt(optimizer, variables)
    by_reference: dict[int, int] = {}
    places = {id(variable): place for place, variable in enumerate(variables)}
    make = optimizer.add_variable_from_reference

    def noting(reference_variable: Any, *args: Any, **kwargs: Any) -> Any:
        made = make(reference_variable, *args, **kwargs)
        if id(reference_variable) in places:
            by_reference[id(made)] = places[id(reference_variable)]
        return made

    before = len(optimizer.variables)
    optimizer.add_variable_from_reference = noting
    optimizer.build(looked_at)
    optimizer.add_variable_from_reference = make
    slots = optimizer.variables[before:]
    return [
        (slot, by_reference.get(id(slot), looked_at.meanwhile.get(id(slot))))
        for slot in slots
    ]


def balanced(sizes: Sequence[tuple[int, int]], owners: int) -> list[int]:
    """Shares variables out, the largest first, to whom has the least.

    As `torch.distributed.optim.ZeroRedundancyOptimizer` does it.

    Args:
        sizes: For each variable, the bytes of its state and its own.
        owners: Their number.

    Returns:
        The owner of each variable.

    Example:

    >>> balanced([(8, 4), (80, 40), (40, 20), (24, 12)], owners=2)
    [1, 0, 1, 1]
    """
    loads = [(0, 0)] * owners
    chosen = [0] * len(sizes)
    largest_first = sorted(
        range(len(sizes)), key=lambda place: sizes[place], reverse=True
    )
    for place in largest_first:
        owner = loads.index(min(loads))
        chosen[place] = owner
        state, own = loads[owner]
        loads[owner] = state + sizes[place][0], own + sizes[place][1]
    return chosen


class _LookedAt(list):
    """Variables that tell which slots were made when each was looked at."""

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        variables: Sequence[keras.Variable],
    ) -> None:
        super().__init__(variables)
        self._optimizer = optimizer
        self.meanwhile: dict[int, int] = {}

    def __iter__(self) -> Iterator[keras.Variable]:
        for place, variable in enumerate(super().__iter__()):
            before = len(self._optimizer.variables)
            yield variable
            for slot in self._optimizer.variables[before:]:
                self.meanwhile.setdefault(id(slot), place)
