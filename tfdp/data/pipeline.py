"""What a marked pipeline does with a worker's samples."""

from typing import NamedTuple

import tensorflow as tf

from tfdp.cluster.membership import Membership
from tfdp.data.index_order import length
from tfdp.data.mark import after_mark, mark_of, marks, wholes
from tfdp.upstream.tensorflow import tf_datasets

_COMPOSED = (tf.SparseTensorSpec, tf.RaggedTensorSpec)
# What keeps batches as they are, and in their order.
_KEEPS_BATCHES = (
    "Map",
    "ParallelMap",
    "Prefetch",
    "Options",
    "Cache",
    "AssertCardinality",
)
# What counts samples, or compares each with those before it; as users call it.
_LOOKS_AT_OTHERS = {
    "Take": "take",
    "Skip": "skip",
    "Shard": "shard",
    "TakeWhile": "take_while",
    "Scan": "scan",
    "Unique": "unique",
}
_NOT_AT_ALL = "Leave out `repeat`: `fit` begins the dataset anew in each epoch."
# What makes samples, or batches of them, inside of a function.
_NESTS = ("Interleave", "FlatMap")
_DROPS = {"PaddedBatch": "padded_batch", "Window": "window"}


class Pipeline(NamedTuple):
    """What a pipeline does after its mark.

    Attributes:
        micro_batch: Samples of a full micro-batch, over all workers.
        samples: Samples of this worker per epoch; negative, as TensorFlow has
            it, where that is unknown or without end.
    """

    micro_batch: int
    samples: int


def pipeline(dataset: tf.data.Dataset, own: Membership) -> Pipeline:
    """Returns what a marked pipeline does after its mark.

    Args:
        dataset: A pipeline that `is_marked`.
        own: Which worker this is.

    Raises:
        ValueError: If micro-batches would be others than those of one device,
            or samples would be lost.
    """
    found = set(marks(dataset))
    if found != {own}:
        others = (
            "a part that is not marked"
            if None in found
            else ", ".join(map(str, found - {own}))
        )
        raise ValueError(
            "All parts of a dataset are split alike, between the workers that "
            f"train on it. Received: {others}; this is {own}. Apply "
            "`tfdp.shard` once, after `zip`, `concatenate`, `snapshot` and "
            "`sample_from_datasets`, and after the strategy is made."
        )
    rows = tf.nest.flatten(dataset.element_spec)
    if any(isinstance(spec, _COMPOSED) for spec in rows):
        raise ValueError(
            "`tfdp.shard` splits dense tensors. Received: a dataset of sparse "
            "or ragged ones. Make them dense by a `map` before the end, or "
            "leave out the mark."
        )
    node, repeats = dataset, []
    while (batching := tf_datasets.batching(node)) is None:
        kind = tf_datasets.kind(node)
        if kind == "Repeat":
            repeats.append(node)
        elif kind not in _KEEPS_BATCHES:
            name = tf_datasets.called(node)
            last = f"`{name}` at its end, which moves before `batch`"
            if mark_of(node) is not None:
                last = _where_batched(node)
            elif kind.endswith(_NESTS):
                last = (
                    f"no `batch` outside of `{name}`; it follows after "
                    f"`{name}`, not inside of it"
                )
            raise ValueError(
                "A dataset that is split by `tfdp.shard` is batched after the "
                "mark, and its batches then kept: nothing but `map`, `cache` "
                f"and `prefetch` follow. Received: {last}."
            )
        (node,) = tf_datasets.inputs(node)
    (samples,) = tf_datasets.inputs(node)
    count = int(samples.cardinality())
    _check_drops(node)
    _check_order(samples, batching.size, repeats)
    if count == tf.data.UNKNOWN_CARDINALITY:
        count = length(samples) or count
    for repeat in repeats if count >= 0 else []:
        inner = int(tf_datasets.inputs(repeat)[0].cardinality())
        outer = int(repeat.cardinality())
        count = outer // inner * count if outer >= 0 else outer
    return Pipeline(batching.size, count)


def _where_batched(mark: tf.data.Dataset) -> str:
    if any(map(tf_datasets.batching, tf_datasets.through(mark))):
        return (
            "a `batch` before it and none after it; apply `tfdp.shard` to "
            "samples, and move `batch` after it"
        )
    return "no `batch` after it"


def _check_order(
    samples: tf.data.Dataset, micro_batch: int, repeats: list[tf.data.Dataset]
) -> None:
    for node in after_mark(samples):
        kind = tf_datasets.kind(node)
        if kind in _LOOKS_AT_OTHERS and mark_of(node) is None:
            raise ValueError(
                "After `tfdp.shard` each worker counts its own samples, and "
                f"knows no others. Received: `{_LOOKS_AT_OTHERS[kind]}` after "
                "it. Move it before the mark."
            )
        _check_drops(node)
        if kind == "Repeat":
            (repeated,) = tf_datasets.inputs(node)
            _check_repeats(node, repeated, 1)
    for node in repeats:
        _check_repeats(node, samples, micro_batch)
    _check_endless(samples)


def _check_drops(node: tf.data.Dataset) -> None:
    if not tf_datasets.drops_remainder(node):
        return
    (samples,) = tf_datasets.inputs(node)
    if int(samples.cardinality()) != tf.data.INFINITE_CARDINALITY:
        name = _DROPS.get(tf_datasets.kind(node), "batch")
        raise ValueError(
            "After `tfdp.shard` no worker knows what all of them would drop. "
            f"Received: `{name}(..., drop_remainder=True)`. Drop samples "
            "before the mark: `.take(count // micro_batch * micro_batch)`."
        )


def _check_repeats(
    repeat: tf.data.Dataset, samples: tf.data.Dataset, micro_batch: int
) -> None:
    own = int(samples.cardinality())
    if own == tf.data.INFINITE_CARDINALITY:
        return
    changes = _changes_number(samples)
    if changes is not None:
        raise ValueError(
            "After `tfdp.shard` a dataset is repeated only where all workers "
            "have as many samples, or some would be ahead of others. Received: "
            f"`repeat` after `{changes}`, after the mark. {_NOT_AT_ALL}"
        )
    for mark, whole in wholes(repeat):
        count = int(whole.cardinality())
        if count == tf.data.INFINITE_CARDINALITY:
            continue
        workers = mark.num_workers
        if count % workers or own < 0 or own * workers % micro_batch:
            raise ValueError(
                "After `tfdp.shard` a dataset is repeated only where workers "
                "and micro-batches divide it, or some workers would be ahead "
                f"of others. Received: `repeat` after the mark, of {count} "
                f"samples on {workers} workers. Repeat before the mark, or "
                "not at all: `fit` begins the dataset anew in each epoch."
            )


def _check_endless(samples: tf.data.Dataset) -> None:
    """Refuses what is endless by a `repeat`, of which workers keep parts."""
    changes = _changes_number(samples)
    for _, whole in wholes(samples) if changes is not None else []:
        is_endless = int(whole.cardinality()) == tf.data.INFINITE_CARDINALITY
        if is_endless and "Repeat" in tf_datasets.pipeline_steps(whole):
            raise ValueError(
                "After `tfdp.shard` samples of a dataset that is repeated "
                "without end are kept one by one, or some workers would be "
                "through with theirs more often than others. Received: "
                f"`{changes}` after the mark, `repeat` before it. {_NOT_AT_ALL}"
            )


def _changes_number(dataset: tf.data.Dataset) -> str | None:
    """Names what, after the mark, may give other numbers on each worker."""
    for node in after_mark(dataset):
        is_known = int(node.cardinality()) != tf.data.UNKNOWN_CARDINALITY
        if is_known or mark_of(node) is not None:
            continue
        parts = tf_datasets.inputs(node)
        if tf.data.UNKNOWN_CARDINALITY not in [
            int(part.cardinality()) for part in parts
        ]:
            return tf_datasets.called(node)
    return None
