"""What a step divides by the number of replicas, seen in its graph.

Keras divides each replica's loss by their number, so that gradients can be
added up, and so must a `train_step` of the user's that has no use for Keras's
losses. A loss that is logged afterwards is too small. While a step is traced,
the number of replicas is therefore one that is known again as a tensor, and
what was computed with it is computed once more, for one replica.
"""

import contextlib
import dataclasses
import threading
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from tfdp.upstream.tensorflow import tf_functions

_slot = threading.local()
_MOST_OPERATIONS = 200  # Of a loss; the backward pass has more.


@dataclasses.dataclass
class Divisions:
    """What a replica's step has asked for, and done with it.

    Attributes:
        part: Scalar float32; this replica's samples over the mean of all
            replicas', or `None` where all have as many.
        tensors: The number of replicas, and one over it, as tensors.
        asked: Whether anybody has asked for the number in order to divide.
        counts: The numbers that code of the user's was given.
        lost: Which of them have not become tensors, by identity.
        updates: Whether an optimizer has taken gradients.
        results: What metrics have returned, each with its metric.
        of_all: What replicas have made together, such as sums over them.
    """

    part: tf.Tensor | None = None
    tensors: list[tf.Tensor] = dataclasses.field(default_factory=list)
    asked: bool = False
    counts: list[Any] = dataclasses.field(default_factory=list)
    lost: set[int] = dataclasses.field(default_factory=set)
    updates: bool = False
    results: list[tuple[Any, Any]] = dataclasses.field(default_factory=list)
    of_all: list[tf.Tensor] = dataclasses.field(default_factory=list)


class _Known:
    """A number that is known again where it has become a tensor."""

    source: Any = None  # The number that was asked for.

    def __tf_tensor__(
        self, dtype: Any = None, name: str | None = None
    ) -> tf.Tensor:
        number: Any = self
        kind = int if isinstance(self, int) else float
        tensor = tf.constant(
            kind(number),
            dtype or tf_functions.dtype_hint(),
            name=name or "num_replicas",
        )
        noted = divisions()
        if noted is not None:
            noted.tensors.append(tensor)
            noted.lost.discard(id(self.source or self))
        return tensor

    def __rtruediv__(self, other: Any) -> Any:
        """Returns a quotient that is known again, too."""
        number: Any = self
        quotient = other / (number + 0)
        if not isinstance(quotient, float):
            return quotient
        part = _Part(quotient)
        part.source = self
        return part


class ReplicaCount(_Known, int):
    """The number of replicas."""

    dtype = int  # For Keras, which asks numbers for their type.


class DividingCount(_Known, float):
    """The same for Keras, which divides a float by it."""

    dtype = float


class _Part(_Known, float):
    dtype = float


@contextlib.contextmanager
def noting_divisions(part: tf.Tensor | None) -> Iterator[Divisions]:
    """Notes, in its context, what a replica's step divides.

    Args:
        part: As in `Divisions`.
    """
    previous = divisions()
    _slot.divisions = Divisions(part)
    try:
        yield _slot.divisions
    finally:
        _slot.divisions = previous


@contextlib.contextmanager
def pretending(count: int) -> Iterator[None]:
    """Has every tfdp strategy say that it has a number of replicas.

    For programs that ask one which they hold, and not the one in use.

    Args:
        count: The number.
    """
    previous = pretended()
    _slot.pretended = count
    try:
        yield
    finally:
        _slot.pretended = previous


def pretended() -> int | None:
    """Returns the number of replicas that is pretended, if one is."""
    return getattr(_slot, "pretended", None)


def divisions() -> Divisions | None:
    """Returns what is noted of the step at work, if it is."""
    return getattr(_slot, "divisions", None)


def count_for(count: int, *, is_keras: bool) -> Any:
    """Returns the number of replicas for somebody who may divide by it.

    Args:
        count: The number.
        is_keras: Whether it is Keras who is about to divide.
    """
    noted = divisions()
    if noted is None or count == 1:
        return count
    noted.asked = True
    if is_keras:
        return DividingCount(count)
    known = ReplicaCount(count)
    noted.counts.append(known)  # So that no other has its identity.
    noted.lost.add(id(known))
    return known


def check_not_divided(loss: Any) -> None:
    """Checks that a loss is not divided by the replicas twice.

    In a step of the user's own there is no telling whether a loss of Keras's
    that a layer computes is differentiated as it is, or given to `add_loss`.

    Args:
        loss: What Keras is about to divide; may be `None`.

    Raises:
        ValueError: If it was divided before.
    """
    noted = divisions()
    if noted is None or not tf.is_tensor(loss) or tf_functions.is_eager(loss):
        return
    # A loss at inputs that a gradient has moved is divided once, and not a
    # scalar all the way.
    if not tf_functions.scalars_lead(noted.tensors, loss):
        return
    raise ValueError(
        "A loss is divided by the number of replicas once. Received: a loss "
        "of Keras's inside of `add_loss`, in a model whose step is its own, "
        "where both divide. Compute what is added by `keras.ops`, such as "
        "`ops.mean(ops.square(y - y_pred))`."
    )


def undivided(tensor: tf.Tensor) -> tf.Tensor | None:
    """Computes a tensor of a step again, with one for the number of replicas.

    Args:
        tensor: A tensor of the step at work.

    Returns:
        The tensor itself where the number has no part in it, and `None` where
        that is not to be known.
    """
    noted = divisions()
    if noted is None or not noted.asked:
        return tensor
    if tf_functions.is_eager(tensor) or noted.lost:
        return None
    if any(each.graph is not tensor.graph for each in noted.tensors):
        return None
    ones = {each.ref(): tf.ones_like(each) for each in noted.tensors}
    # A sum over replicas of what each has divided is the mean.
    return tf_functions.computed_again(
        tensor, ones, _MOST_OPERATIONS, noted.of_all
    )
