"""An order of samples that is a function of a seed and an index."""

import itertools

import tensorflow as tf

from tfdp.checks import checked_count
from tfdp.data.mark import mark_of
from tfdp.upstream.tensorflow import tf_datasets

_START = "_tfdp_start"
_CHUNK = 1024
_numbers = itertools.count()
# What has an element for each element, or for each batch of them.
_KEEPS_PLACES = (
    "Map",
    "ParallelMap",
    "Prefetch",
    "Options",
    *tf_datasets.BATCHES,
)


def shuffled_range(count: int, seed: int | None = None) -> tf.data.Dataset:
    """Returns the numbers below `count`, in an order of its own each epoch.

    As `tf.data.Dataset.range(count).shuffle(count, seed)`, without a buffer:
    the number at each place is computed, by a cipher of the place (Simon, as
    `tf.random.experimental.index_shuffle` has it). It begins at once, and
    `callbacks.BackupAndRestore` resumes in it without reading what was seen
    before, if nothing but `map`, `tfdp.shard`, `batch` and `prefetch` follows.

    Args:
        count: How many; at least 1.
        seed: Seed of the orders. Defaults to one of TensorFlow's global seed.

    Returns:
        A dataset of int64 scalars. TensorFlow does not know its length; `fit`
        does, on a strategy of tfdp's.

    Raises:
        TypeError: If `count` or `seed` is no integer.
        ValueError: If `count` is not positive, or `seed` negative.

    Example:

    >>> order = shuffled_range(4, seed=1)
    >>> sorted(order.as_numpy_iterator()) == [0, 1, 2, 3]
    True
    """
    count = checked_count("count", count)
    if seed is not None:
        seed = checked_count("seed", seed, minimum=0)
    drawn = tf.data.Dataset.random(seed, rerandomize_each_iteration=True)
    return _from_start(drawn.take(1), count)


def in_order(count: int) -> tf.data.Dataset:
    """Returns the numbers below `count`, so that `go_to` works on them.

    Args:
        count: How many; at least 1.
    """
    return _from_start(tf.data.Dataset.range(1), count)


def _from_start(drawn: tf.data.Dataset, count: int) -> tf.data.Dataset:
    start = _Start()
    is_shuffled = tf_datasets.kind(drawn) == "Take" and count > 1

    # Nothing is in there for AutoGraph, which takes long to see that.
    @tf.autograph.experimental.do_not_convert
    def begun(number: tf.Tensor) -> tf.data.Dataset:
        places = tf.data.Dataset.range(start.taken(), count).batch(_CHUNK)
        if not is_shuffled:
            return places
        seed = tf.bitcast(number, tf.int32)

        @tf.autograph.experimental.do_not_convert
        def shuffled(chunk: tf.Tensor) -> tf.Tensor:
            return tf.random.experimental.index_shuffle(chunk, seed, count - 1)

        return places.map(shuffled)

    order = drawn.flat_map(begun).unbatch()
    vars(order)[_START] = start, count
    return order


def length(dataset: tf.data.Dataset) -> int | None:
    """Returns how many elements a `shuffled_range` with what follows has.

    Returns:
        The number; `None` where it is not one, or its places are not kept.
    """
    found = _source(dataset)
    if found is None:
        return None
    elements = vars(found[0])[_START][1]
    for node in reversed(found[1]):
        batching = tf_datasets.batching(node)
        if batching is not None:
            size, drops = batching
            elements = (elements + (0 if drops else size - 1)) // size
        elif (mark := mark_of(node)) is not None:
            elements = len(
                range(elements)[mark.worker_index :: mark.num_workers]
            )
    return elements


def go_to(dataset: tf.data.Dataset, batches: int) -> bool:
    """Has the next epoch of a dataset begin at a batch, without a look.

    Args:
        dataset: Any.
        batches: How many micro-batches to leave out.

    Returns:
        Whether it can; otherwise nothing has changed.
    """
    source, passed = _source(dataset) or (None, [])
    sizes = [b.size for b in map(tf_datasets.batching, passed) if b]
    if source is None or len(sizes) != 1:
        return False
    if any(map(tf_datasets.draws_numbers, passed)):
        # Which would be those of the first batches.
        return False
    vars(source)[_START][0].set(batches * sizes[0])
    return True


def _source(
    dataset: tf.data.Dataset,
) -> tuple[tf.data.Dataset, list[tf.data.Dataset]] | None:
    passed = []
    while _START not in vars(dataset):
        keeps = tf_datasets.kind(dataset) in _KEEPS_PLACES
        if not keeps and mark_of(dataset) is None:
            return None
        passed.append(dataset)
        (dataset,) = tf_datasets.inputs(dataset)
    return dataset, passed


class _Start:
    """The place that the next epoch begins at; the one after, at 0.

    A variable; of no strategy, wherever it is made.
    """

    def __init__(self) -> None:
        with tf.init_scope(), tf.device("CPU:0"):
            self._handle = tf.raw_ops.VarHandleOp(
                dtype=tf.int64,
                shape=[],
                shared_name=f"tfdp_start_{next(_numbers)}",
            )
        self.set(0)

    def set(self, place: int) -> None:
        self._assign(tf.constant(place, tf.int64))

    def taken(self) -> tf.Tensor:
        """Returns the place, in a graph, and sets it to 0."""
        place = tf.raw_ops.ReadVariableOp(resource=self._handle, dtype=tf.int64)
        with tf.control_dependencies([place]):
            self._assign(tf.zeros([], tf.int64))
        return place

    def _assign(self, value: tf.Tensor) -> None:
        tf.raw_ops.AssignVariableOp(resource=self._handle, value=value)
