"""Data of a `fit` of which each worker takes whole batches, by number."""

from typing import Any

import tensorflow as tf

from tfdp.cluster.membership import Membership, membership
from tfdp.data import Share, by_rows, is_shard
from tfdp.data.numbered import (
    ArrayBatches,
    Feed,
    InSteps,
    ItemBatches,
    Source,
    Stream,
    blocks_of,
    check_whole,
    fed,
    grain_items,
)
from tfdp.machine import usable_cores
from tfdp.strategy.data_parallel_strategy import DataParallelStrategy
from tfdp.strategy.distributed_dataset import (
    CountedDataset,
    no_batches,
    prepared,
)
from tfdp.strategy.sparse_rows import as_rows
from tfdp.upstream.keras import keras_data, keras_epochs
from tfdp.upstream.tensorflow import tf_datasets


class NumberedDataset(CountedDataset):
    """Yields the batches that a feed hands out to this worker.

    Args:
        dataset: What TensorFlow's strategy has made.
        source: This worker's dataset that it was made from.
        strategy: The tfdp strategy.
        batches: Where they come from.
    """

    def __init__(
        self,
        dataset: tf.distribute.DistributedDataset,
        source: tf.data.Dataset,
        strategy: DataParallelStrategy,
        batches: Source,
    ) -> None:
        nothing = tf.data.Dataset.range(0)
        super().__init__(
            dataset,
            source,
            nothing,
            strategy=strategy,
            order=nothing,
            steps=tf.data.UNKNOWN_CARDINALITY,
            is_split=True,
        )
        self._batches = batches

    @property
    def facts(self) -> dict[str, Any]:
        """What must be the same on all workers, by name."""
        total = self._batches.total
        return {
            "the number of batches of an epoch": (
                "not known" if total is None else total
            ),
            **self._batches.facts,
        }

    def close(self) -> None:
        """Takes note that `fit` is over, so that no thread waits for more."""
        if isinstance(self._batches, InSteps):
            self._batches.close()


def read_all(epochs: Any, dataset: tf.data.Dataset) -> None:
    """Has `evaluate`, `predict` or validation read all of a marked dataset.

    At a mark that lets all samples through their number is not known, of which
    Keras would warn.

    Args:
        epochs: The `EpochIterator` that holds it, once it is distributed.
        dataset: What Keras has made of the data.
    """
    is_marked = any(map(blocks_of, tf_datasets.through(dataset)))
    if is_marked and epochs.steps_per_epoch is None:
        keras_epochs.until_end(epochs, None)


def distribute_numbered(
    strategy: DataParallelStrategy,
    dataset: tf.data.Dataset,
    *,
    epochs: Any,
    first_epoch: int,
    feed: Feed,
    seed: int,
) -> NumberedDataset:
    """Distributes the batches that a feed hands out to this worker.

    Args:
        strategy: The strategy whose replicas here share each of them.
        dataset: What Keras has made of the data of `fit`.
        epochs: The `EpochIterator` that holds them.
        first_epoch: Number of the first epoch of `fit`, as the program gave
            it, and not where it goes on.
        feed: What hands out the numbers.
        seed: Seed of their order, where Keras leaves it to the strategy; the
            same on all workers.

    Raises:
        ValueError: If there are none, or batches would not be those of one
            device, each once.
    """
    own = membership()
    spec = dataset.element_spec
    _check_ranks(spec)
    steps = epochs.steps_per_epoch
    source = _source(dataset, epochs, own, seed, has_steps=steps is not None)
    if source.total == 0:
        raise no_batches()
    if steps is not None:
        source = InSteps(source, steps)
    total = source.total
    feed.first_epoch = first_epoch
    keras_epochs.begin_late(epochs, None)
    keras_epochs.until_end(
        epochs,
        None
        if total is None
        else len(range(own.worker_index, total, own.num_workers)),
    )
    numbered = tf.data.Dataset.from_generator(
        lambda: fed(feed, source, feed.first_epoch, no_batches),
        output_signature=spec,
    )
    share = Share(0, 1, strategy.num_replicas_in_sync)
    # To wait for a number, or what is wanted of a batch, takes a thread.
    waiting = tf.data.Options()
    waiting.threading.private_threadpool_size = 2
    split = prepared(by_rows(numbered, share, None).dataset)
    rows = as_rows(split).with_options(waiting)
    theirs = tf.distribute.Strategy.distribute_datasets_from_function(
        strategy, lambda _: rows
    )
    return NumberedDataset(theirs, split, strategy, source)


def _source(
    dataset: tf.data.Dataset,
    epochs: Any,
    own: Membership,
    seed: int,
    *,
    has_steps: bool,
) -> Source:
    arrays = keras_data.batches_of_arrays(epochs)
    if arrays is not None:
        return ArrayBatches(
            arrays.gather,
            arrays.num_samples,
            arrays.batch_size,
            seed if arrays.is_shuffled else None,
        )
    items = keras_epochs.py_dataset(epochs)
    if items is not None:
        item, is_shuffled = keras_epochs.py_dataset_items(epochs)

        def between_epochs() -> None:
            items.on_epoch_end()
            items.on_epoch_begin()

        return ItemBatches(
            item,
            items.num_batches,
            seed=seed if is_shuffled else None,
            threads=items.workers,
            between_epochs=between_epochs,
        )
    grain = keras_epochs.grain_data(epochs)
    if grain is not None:
        is_shard(grain, Membership())
        of_items = grain_items(grain)
        if of_items is not None:
            return of_items
    blocks = check_whole(dataset, own.num_workers)
    count = int(dataset.cardinality())
    total = blocks.total if blocks is not None else count
    is_known = count >= 0 or (blocks is not None and blocks.samples >= 0)

    def times_begun(epoch: int) -> int:
        if has_steps:
            return epoch
        # Keras begins them at the end of an epoch of known length, too.
        return 2 * epoch if is_known else epoch

    return Stream(
        _untuned(dataset),
        total if total is not None and total >= 0 else None,
        times_begun,
        blocks=blocks,
        is_once=keras_data.kind_of_data(epochs) == "generator",
    )


def _untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    options = tf.data.Options()
    options.deterministic = True
    # One waits for the next number, where samples are marked.
    options.threading.private_threadpool_size = usable_cores() + 1
    if usable_cores() <= 2:
        options.autotune.enabled = False
    return dataset.with_options(options)


def _check_ranks(spec: Any) -> None:
    for leaf in tf.nest.flatten(spec):
        if getattr(leaf, "shape", tf.TensorShape([])).rank is None:
            raise ValueError(
                "Workers that take batches by their numbers look at none "
                "before. Received: a dataset of tensors whose number of axes "
                f"is unknown, {leaf}. Call `set_shape` in a `map`, or give "
                "`from_generator` an `output_signature`."
            )
