"""A `PyDataset` of which each worker computes its own items."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfdp.cluster.membership import Membership, membership
from tfdp.data.orders import orders


class WorkerItems(keras.utils.PyDataset):
    """This worker's items of a `PyDataset`: one of each step.

    Args:
        dataset: The items of all workers, those of a step after each other.
        own: Which worker this is.

    Attributes:
        dataset: As given.
        own: As given.
        compare: Called with the name of a method that may reorder items, and
            with a digest of each attribute it has changed.
    """

    def __init__(self, dataset: keras.utils.PyDataset, own: Membership) -> None:
        super().__init__(
            workers=dataset.workers,
            use_multiprocessing=dataset.use_multiprocessing,
            max_queue_size=dataset.max_queue_size,
        )
        self.dataset = dataset
        self.own = own
        self.compare: Callable[[str, dict[str, int]], None] | None = None
        self._nothing: Any = None

    @property
    def num_batches(self) -> int | None:
        """Number of steps; `None` if they have no end."""
        count = self.dataset.num_batches
        return None if count is None else -(-count // self.own.num_workers)

    def __len__(self) -> int:
        """Number of steps."""
        steps = self.num_batches
        if steps is None:
            raise TypeError("This PyDataset has no end, and so no length.")
        return steps

    def __getitem__(self, step: int) -> Any:
        """Returns this worker's item of a step, without rows if it has none."""
        place = step * self.own.num_workers + self.own.worker_index
        count = self.dataset.num_batches
        if count is None or place < count:
            item = self.dataset[place]
            if self._nothing is None:
                self._nothing = _without_rows(item)
            return item
        if self._nothing is None:
            # Of an item of another worker: this one has none at all.
            self._nothing = _without_rows(self.dataset[0])
        return self._nothing

    def on_epoch_begin(self) -> None:
        """Calls that of the dataset, and compares what it has changed."""
        self._compared("on_epoch_begin")

    def on_epoch_end(self) -> None:
        """Calls that of the dataset, and compares what it has changed."""
        self._compared("on_epoch_end")

    def _compared(self, name: str) -> None:
        method = getattr(self.dataset, name)
        theirs = getattr(keras.utils.PyDataset, name)
        if getattr(method, "__func__", None) is theirs:
            return
        before = orders(self.dataset)
        method()
        if self.compare is not None:
            after = orders(self.dataset).items()
            changed = {k: v for k, v in after if before.get(k) != v}
            self.compare(name, changed | {"length": self.dataset.num_batches})

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out what knows the strategy, for processes that read."""
        return {**vars(self), "compare": None}


def own_items(dataset: keras.utils.PyDataset) -> keras.utils.PyDataset:
    """Keeps every Nth item for this worker.

    Args:
        dataset: The items of all workers.
    """
    own = membership()
    if own.num_workers == 1 or own.takes_whole_batches:
        return dataset
    if isinstance(dataset, WorkerItems):
        raise ValueError(
            "Samples of workers part once. Received: a PyDataset that "
            "`tfdp.shard` was applied to before. Apply it once."
        )
    return WorkerItems(dataset, own)


def _without_rows(item: Any) -> Any:
    return keras.tree.map_structure(
        lambda leaf: None if leaf is None else rows(leaf, 0, 0), item
    )


def rows(leaf: Any, begin: Any, end: Any) -> Any:
    """Returns some rows of an array or tensor, sparse or ragged too."""
    if not isinstance(leaf, tf.SparseTensor):
        return leaf[begin:end]
    later = tf.shape(leaf, tf.int64)[1:]
    return tf.sparse.slice(
        leaf,
        tf.concat([[tf.cast(begin, tf.int64)], tf.zeros_like(later)], 0),
        tf.concat([[tf.cast(end - begin, tf.int64)], later], 0),
    )
