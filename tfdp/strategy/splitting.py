"""How data that several workers are given are split, before they are read."""

import functools
import random
import warnings
import weakref
from typing import Any

import tensorflow as tf

from tfdp.agreement import (
    all_gather,
    check_own_files,
    check_same_beginning,
    check_same_dataset,
    check_same_length,
    check_same_order,
    common_signature,
    warn_of_other_orders,
)
from tfdp.cluster.membership import Membership
from tfdp.data import (
    Share,
    Split,
    WorkerItems,
    by_replica,
    by_rows,
    cache_files,
    digest,
    is_marked,
    is_shard,
    orders,
    pipeline,
    split_arrays,
    wholes,
)
from tfdp.strategy.data_parallel_strategy import DataParallelStrategy
from tfdp.strategy.distributed_dataset import (
    CountedDataset,
    no_batches,
    prepared,
)
from tfdp.strategy.sparse_rows import as_rows
from tfdp.upstream.keras import keras_data, keras_epochs

_told: weakref.WeakSet[DataParallelStrategy] = weakref.WeakSet()


def split_of(
    strategy: DataParallelStrategy,
    dataset: tf.data.Dataset,
    epochs: Any,
    seed: int,
) -> Split | None:
    """Returns what this worker is given of data that are split.

    A collective.

    Args:
        strategy: The strategy whose workers share them.
        dataset: What Keras has made of the data.
        epochs: The `EpochIterator` that holds them; `None` where there is
            none.
        seed: Seed of their order, where Keras leaves it to the strategy.

    Returns:
        That part; `None` where every worker reads all.

    Raises:
        ValueError: If they cannot be split so, or differ between workers.
    """
    share = Share(
        strategy.worker_index,
        strategy.num_workers,
        strategy.num_replicas_in_sync // strategy.num_workers,
    )
    own = Membership(strategy.worker_index, strategy.num_workers)
    arrays = keras_data.arrays(epochs)
    if arrays is not None:
        check_same_dataset(strategy, dataset)
        return split_arrays(
            arrays.arrays,
            arrays.num_samples,
            arrays.batch_size,
            share,
            seed if arrays.is_shuffled else None,
        )
    items = keras_epochs.py_dataset(epochs)
    grain = keras_epochs.grain_data(epochs)
    is_predicting = keras_epochs.is_predicting(within=4)
    is_grains = grain is not None and is_shard(grain, own)
    if isinstance(items, WorkerItems) or is_grains or is_marked(dataset):
        if is_predicting:
            raise ValueError(
                "`predict` returns its rows in the order of the samples. "
                "Received: a dataset that `tfdp.shard` was applied to, of "
                "which each worker has every Nth. Give `predict` the "
                "dataset without it, or arrays."
            )
        if isinstance(items, WorkerItems):
            batches = _batches_of(items, strategy, dataset, epochs, own, seed)
            return by_rows(batches, share, items.num_batches)
        if is_grains:
            check_same_beginning(strategy, digest(grain))
            split = by_rows(dataset, share, None)
            return Split(*split[:3], stride=share.num_workers)
        return _after_mark(strategy, dataset, share, own)
    if items is not None and not is_predicting:
        _tell_of_shard(strategy)
    return None


def distribute_split(
    strategy: DataParallelStrategy, split: Split
) -> CountedDataset:
    """Distributes what this worker alone has been given of a dataset.

    Args:
        strategy: The strategy whose replicas here share it.
        split: What there is.
    """
    epochs = keras_epochs.iterator_under_construction(within=2)
    if epochs is not None:
        keras_epochs.begin_late(epochs, no_batches)
    elif split.stride > 1 and strategy.random_by == "sample":
        raise ValueError(
            'With `random_by="sample"` samples that `tfdp.shard` shares out '
            "are for `fit`. Received: some for a loop of your own. Drop it."
        )
    if split.steps == 0:
        raise no_batches()
    dataset = prepared(split.dataset)
    rows = as_rows(dataset)
    theirs = tf.distribute.Strategy.distribute_datasets_from_function(
        strategy, lambda _: rows
    )
    distributed = CountedDataset(
        theirs,
        dataset,
        split.order,
        strategy=strategy,
        order=split.order,
        steps=split.steps,
        is_split=True,
        stride=split.stride,
    )
    if split.steps != tf.data.UNKNOWN_CARDINALITY:
        distributed.end_together()
    if epochs is not None:
        keras_epochs.take_length(epochs, distributed)
        if split.steps < 0:
            keras_epochs.forget_length(epochs)
    return distributed


def _after_mark(
    strategy: DataParallelStrategy,
    dataset: tf.data.Dataset,
    share: Share,
    own: Membership,
) -> Split:
    of_worker = pipeline(dataset, own)
    micro_batch = of_worker.micro_batch
    samples = [int(whole.cardinality()) for _, whole in wholes(dataset)]
    check_same_dataset(
        strategy, dataset, micro_batch=micro_batch, samples=sum(samples)
    )
    check_own_files(strategy, cache_files(dataset))
    if strategy.random_by == "sample":
        _check_turns(samples, micro_batch, share.num_workers)
    steps = int(all_gather(strategy, [of_worker.samples]).min())
    if steps >= 0:
        own_steps = share.steps(of_worker.samples, micro_batch)
        steps = int(all_gather(strategy, [own_steps]).max())
    return by_replica(dataset, micro_batch, share, steps)


def _check_turns(
    samples: list[int], micro_batch: int, num_workers: int
) -> None:
    """Checks that each step shows which worker has its first sample.

    It is worker 0, or the first of those that have one more.
    """
    if micro_batch % num_workers == 0 or samples == [
        tf.data.INFINITE_CARDINALITY
    ]:
        return
    if len(samples) == 1 and samples[0] >= 0:
        last = samples[0] % micro_batch
        before = samples[0] - last
        if not last or last % num_workers or before % num_workers == 0:
            return
    raise ValueError(
        'With `random_by="sample"` the workers must have known turns in the '
        "samples that `tfdp.shard` shares out. Received: micro-batches of "
        f"{micro_batch} on {num_workers} workers, and a last one of which each "
        "has as many or nobody knows. Choose micro-batches that the workers "
        "divide, or leave out `tfdp.shard`."
    )


def _batches_of(
    items: WorkerItems,
    strategy: DataParallelStrategy,
    dataset: tf.data.Dataset,
    epochs: Any,
    own: Membership,
    seed: int,
) -> tf.data.Dataset:
    if items.own != own:
        raise ValueError(
            "A PyDataset is split between the workers that train on it. "
            f"Received: that of {items.own}; this is {own}. Apply "
            "`tfdp.shard` after the strategy is made."
        )
    check_same_length(strategy, items.dataset.num_batches)
    warn_of_other_orders(strategy, orders(items.dataset))
    items.compare = functools.partial(check_same_order, strategy)
    return keras_epochs.py_dataset_in_order(
        epochs,
        random.Random(seed).shuffle,
        signature=common_signature(strategy, dataset.element_spec),
    )


def _tell_of_shard(strategy: DataParallelStrategy) -> None:
    if strategy.num_workers == 1 or strategy in _told:
        return
    _told.add(strategy)
    if strategy.is_chief:
        warnings.warn(
            "Each worker computes all items of a PyDataset, and drops the "
            f"rows of the others. Received: one on {strategy.num_workers} "
            "workers. Give `fit` `tfdp.shard(dataset)`, with items of a "
            "worker's share of the rows, to have each compute its own.",
            stacklevel=2,
        )
