"""Where in a pipeline the samples of workers part."""

from collections.abc import Iterator

import tensorflow as tf

from tfdp.cluster.membership import Membership, membership
from tfdp.upstream.tensorflow import tf_datasets

_MARK = "_tfdp_mark"


def marked(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Keeps every Nth element for this worker, and remembers that.

    Args:
        dataset: The elements of all workers.
    """
    check_outer()
    own = membership()
    if own.num_workers == 1:
        return dataset
    if is_marked(dataset):
        raise marked_before()
    shard = dataset.shard(own.num_workers, own.worker_index)
    vars(shard)[_MARK] = own
    return shard


def check_outer() -> None:
    """Checks that a mark is not set inside of another pipeline."""
    if not tf.executing_eagerly():
        raise RuntimeError(
            "`tfdp.shard` marks a pipeline that `fit` is given. Received: a "
            "dataset inside of a function of a pipeline, such as "
            "`interleave`'s. Apply it to the outer dataset, such as that of "
            "file names."
        )


def marked_before() -> ValueError:
    """Returns the error of a second mark."""
    return ValueError(
        "Samples of workers part once. Received: a dataset that "
        "`tfdp.shard` was applied to before. Apply it once."
    )


def is_marked(dataset: tf.data.Dataset) -> bool:
    """Whether any part of a pipeline is marked."""
    return any(marks(dataset))


def mark_of(dataset: tf.data.Dataset) -> Membership | None:
    """Returns between whom the samples part at this very place, if they do."""
    return vars(dataset).get(_MARK)


def marks(dataset: tf.data.Dataset) -> Iterator[Membership | None]:
    """Goes through the marks of all parts, `None` for one that has none."""
    mark = mark_of(dataset)
    parts = tf_datasets.inputs(dataset)
    if mark is not None or not parts:
        yield mark
        return
    for part in parts:
        yield from marks(part)


def after_mark(dataset: tf.data.Dataset) -> Iterator[tf.data.Dataset]:
    """Goes through the datasets from the end of a pipeline to its marks."""
    yield dataset
    if mark_of(dataset) is None:
        for part in tf_datasets.inputs(dataset):
            yield from after_mark(part)


def wholes(
    dataset: tf.data.Dataset,
) -> Iterator[tuple[Membership, tf.data.Dataset]]:
    """Goes through the marks of a dataset, and what they part."""
    for node in after_mark(dataset):
        mark = mark_of(node)
        if mark is not None:
            yield mark, *tf_datasets.inputs(node)


def cache_files(dataset: tf.data.Dataset) -> list[str]:
    """Returns the files that this worker's own samples are cached in."""
    own = [n for n in after_mark(dataset) if mark_of(n) is None]
    return sorted(filter(None, map(tf_datasets.cache_file, own)))
