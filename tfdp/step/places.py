"""Where the samples of a replica are among those of all, in a step."""

import contextlib
import dataclasses
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from tfdp.step.samples import local_samples

SCOPE = "drawn_by_sample"  # Of operations.
_OTHERS = re.compile("(State(less|ful))?(Random|Truncated|Uniform|Multinomial)")
_slot = threading.local()
_LEAVE = 'leave the strategy at `random_by="replica"`.'


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the samples of a micro-batch lie on the replicas.

    Attributes:
        num_workers: How many workers there are, of as many replicas each.
        stride: Scalar int64 variable: 1 where each replica has samples that
            follow those of the one before; `num_workers` where a worker has
            every one of so many, and its replicas share those out. `None`
            where it is always 1.
    """

    num_workers: int = 1
    stride: tf.Variable | None = None


@dataclasses.dataclass
class Places:
    """The places of this replica's rows in the micro-batch.

    Attributes:
        first: Scalar int64; place of the first row.
        stride: Scalar int64; how far from each other they are.
        total: Scalar int64; samples of the micro-batch, over all replicas.
        rows: Scalar int64; rows of this replica, 1 where it has no samples.
        drawn: For each generator that was used in the step, by identity, its
            seed, the samples that it had drawn for before, and how often it
            was used.
    """

    first: tf.Tensor
    stride: tf.Tensor
    total: tf.Tensor
    rows: tf.Tensor
    drawn: dict[int, tuple[tf.Tensor, tf.Tensor, int]] = dataclasses.field(
        default_factory=dict
    )


@contextlib.contextmanager
def placed(layout: Layout | None) -> Iterator[None]:
    """Has layers draw for each sample, in the step that the block runs.

    Args:
        layout: Where samples are; `None` to draw for each replica.
    """
    previous = dict(vars(_slot))
    graph = _graph()
    _slot.layout, _slot.places, _slot.graph = layout, None, graph
    begin = len(graph.get_operations()) if graph else 0
    try:
        yield
        if layout and graph:
            _tell_of_others(graph.get_operations()[begin:])
    finally:
        vars(_slot).clear()
        vars(_slot).update(previous)


@contextlib.contextmanager
def placed_inside(*, draws: bool) -> Iterator[None]:
    """Has layers draw as in the step, in a function that it calls once.

    Replicas meet before, if at all.

    Args:
        draws: Whether there is any layer that does.
    """
    layout, samples = getattr(_slot, "layout", None), local_samples()
    if layout is None or samples is None or not draws:
        yield
        return
    if _slot.places is None:
        _slot.places = _found(samples, layout)
    graph, _slot.graph = _slot.graph, None
    try:
        yield
    finally:
        _slot.graph = graph


def places_for(name: str) -> Places | None:
    """Returns where the samples of this replica are.

    Args:
        name: Name of the generator that is about to draw.

    Returns:
        Their places; `None` outside of a step, and where each replica draws
        its own numbers.

    Raises:
        ValueError: If this is not the graph of the step, but one inside of it,
            which may run any number of times.
    """
    samples = local_samples()
    layout = getattr(_slot, "layout", None)
    if samples is None or layout is None:
        return None
    if _slot.graph is not None and _slot.graph is not _graph():
        raise ValueError(
            'With `random_by="sample"` a layer draws once in each call. '
            f"Received: '{name}', used in a loop, a condition or a "
            "`tf.function` inside of the step. Call the layer outside of it, "
            f"or {_LEAVE}"
        )
    if _slot.places is None:
        _slot.places = _found(samples, layout)
    found: Places = _slot.places
    return found


def checked(shape: tf.Tensor, rows: tf.Tensor, name: str) -> tf.Tensor:
    """Returns the shape of what is drawn, if it has a row for each sample.

    Args:
        shape: Vector int64.
        rows: Scalar int64; samples of this replica.
        name: Name of the generator.

    Raises:
        ValueError: If it has no rows.
        tf.errors.InvalidArgumentError: When the step runs, if they are more or
            fewer.
    """
    rule = (
        'With `random_by="sample"` what a layer draws has a row for each '
        "sample of the batch. Received: {}, drawn by "
        f"'{name}'. Draw with the shape of the batch, or {_LEAVE}"
    )
    if shape.shape[0] == 0:
        raise ValueError(rule.format("one number for all"))
    is_right = tf.debugging.assert_equal(
        tf.maximum(shape[0], 1), rows, rule.format("another number of rows")
    )
    with tf.control_dependencies([] if is_right is None else [is_right]):
        return tf.identity(shape)


def _tell_of_others(operations: Sequence[tf.Operation]) -> None:
    others = {
        each.type
        for each in operations
        if _OTHERS.match(each.type) and SCOPE not in each.name
    }
    if others:
        warnings.warn(
            'With `random_by="sample"` numbers are drawn from the seed '
            "generator of a layer, as in `keras.random.normal(shape, "
            f"seed=self.seed_generator)`. Received: {', '.join(sorted(others))}"
            " in a step, from elsewhere, of which other numbers of replicas or "
            "of micro-batches make something else.",
            stacklevel=2,
        )


def _found(samples: tf.Tensor, layout: Layout) -> Places:
    context: Any = tf.distribute.get_replica_context()
    count = int(context.num_replicas_in_sync)
    place = tf.cast(context.replica_id_in_sync_group, tf.int32)
    of_all = tf.reshape(samples, [1])
    if count > 1:
        of_all = context.all_reduce(
            tf.distribute.ReduceOp.SUM, tf.one_hot(place, count) * samples
        )
    of_all = tf.cast(of_all, tf.int64)
    first, stride = _sum_before(of_all, place), tf.ones([], tf.int64)
    if layout.stride is not None:
        stride = tf.convert_to_tensor(layout.stride)
        apart = _first_of_every(of_all, place, layout.num_workers)
        first = tf.where(tf.equal(stride, 1), first, apart)
    return Places(
        first=first,
        stride=stride,
        total=tf.reduce_sum(of_all),
        rows=tf.cast(tf.maximum(samples, 1), tf.int64),
    )


def _first_of_every(
    of_all: tf.Tensor, place: tf.Tensor, num_workers: int
) -> tf.Tensor:
    """Returns the first place, where each worker has every Nth sample.

    The worker that is dealt the first sample is the first of those that have
    one more; where all have as many, it is worker 0.
    """
    replicas = int(of_all.shape[0]) // num_workers
    by_worker = tf.reduce_sum(tf.reshape(of_all, [num_workers, replicas]), 1)
    has_more = by_worker > tf.roll(by_worker, 1, 0)
    dealt_first = tf.argmax(tf.cast(has_more, tf.int32))
    worker = place // replicas
    turn = (tf.cast(worker, tf.int64) - dealt_first) % num_workers
    own_before = _sum_before(of_all, place) - _sum_before(by_worker, worker)
    return turn + num_workers * own_before


def _sum_before(counts: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
    is_before = tf.sequence_mask(place, counts.shape[0], tf.int64)
    return tf.reduce_sum(counts * is_before)


def _graph() -> tf.Graph | None:
    if tf.executing_eagerly():
        return None
    return tf.compat.v1.get_default_graph()
