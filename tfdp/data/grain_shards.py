"""Datasets of Grain's, of which each worker reads its own elements."""

import re
import sys
import zlib
from typing import Any

import keras
import numpy as np

from tfdp.cluster.membership import Membership, membership
from tfdp.data.grain_data import (
    drops_remainder,
    is_grain,
    parents,
    shard_of,
    through,
)

_MARK = "_tfdp_mark"
_PLACE = re.compile(r" at 0x[0-9a-fA-F]+")


def shard_options(*, drop_remainder: bool = False) -> Any:
    """Returns which records a `grain.DataLoader` of this worker reads.

    `grain.samplers.IndexSampler` gives each worker records that follow each
    other, and shuffles those of each. So each record is seen once per epoch,
    but which of them meet in a micro-batch is not the same as on one device;
    where that matters, use `tfdp.shard` on a `grain.MapDataset`. Batches are a
    worker's share of the micro-batch.

    Args:
        drop_remainder: Whether all workers have as many records, of which some
            are left out for that. Defaults to `False`.

    Returns:
        A `grain.sharding.ShardOptions`; of one shard on one worker.

    Raises:
        RuntimeError: If the environment names several workers whose strategy
            is not made yet.
    """
    from grain.sharding import ShardOptions

    own = membership()
    return ShardOptions(own.worker_index, own.num_workers, drop_remainder)


def own_elements(dataset: Any) -> Any:
    """Keeps every Nth element of a `grain.MapDataset` for this worker.

    Args:
        dataset: The elements of all workers.
    """
    own = membership()
    if own.num_workers == 1 or own.takes_whole_batches:
        return dataset
    if any(_MARK in vars(part) for part in through(dataset)):
        raise ValueError(
            "Samples of workers part once. Received: a MapDataset that "
            "`tfdp.shard` was applied to before. Apply it once."
        )
    if len(dataset) < own.num_workers:
        raise ValueError(
            "Each worker needs an element of a MapDataset. Received: "
            f"{len(dataset)} for {own.num_workers} workers. Apply "
            "`tfdp.shard` before `batch`, or use fewer workers."
        )
    shard = dataset[own.worker_index :: own.num_workers]
    vars(shard)[_MARK] = own
    return shard


def is_shard(data: Any, own: Membership) -> bool:
    """Whether data of Grain's are this worker's alone.

    Args:
        data: A dataset or `grain.DataLoader`.
        own: Which worker this is.

    Raises:
        ValueError: If they are split between others, or workers would drop
            samples that one device does not.
    """
    if is_grain(data, "DataLoader"):
        shard = Membership(*shard_of(data))
        found = {None if shard.num_workers == 1 else shard}
    else:
        found = set(_marks(data))
    if found == {None}:
        return False
    if found != {own}:
        raise ValueError(
            "All parts of a dataset of Grain's are split alike, between the "
            "workers that train on it. Received: "
            f"{', '.join(map(str, found))}; this is {own}. Apply `tfdp.shard` "
            "to the whole, or give `tfdp.shard_options()` to the DataLoader, "
            "after the strategy is made."
        )
    if not is_grain(data, "DataLoader"):
        _check_drops(data, own)
    return True


def digest(data: Any) -> int:
    """CRC of what a dataset begins with, where workers part; 0 of a loader."""
    found = 0
    for whole in _wholes(data):
        for place in range(min(len(whole), 3)):
            for leaf in keras.tree.flatten(whole[place]):
                found = zlib.crc32(_octets(leaf), found)
    return found


def _octets(leaf: Any) -> bytes:
    """What an element holds; of objects, what they say of themselves.

    Without where they are in memory, which differs between workers.
    """
    values = np.asarray(leaf)
    if not values.dtype.hasobject:
        return np.ascontiguousarray(values).tobytes()
    told = [_PLACE.sub("", repr(each)) for each in values.reshape(-1).tolist()]
    return repr(told).encode()


def _marks(dataset: Any) -> list[Membership | None]:
    mark = vars(dataset).get(_MARK)
    made_of = parents(dataset)
    if mark is not None or not made_of:
        return [mark]
    return [each for parent in made_of for each in _marks(parent)]


def _wholes(data: Any) -> list[Any]:
    if is_grain(data, "DataLoader"):
        return []
    return [parents(part)[0] for part in through(data) if _MARK in vars(part)]


def _check_drops(data: Any, own: Membership) -> None:
    for whole in _wholes(data):
        is_endless = len(whole) >= sys.maxsize
        if is_endless or len(whole) % own.num_workers == 0:
            continue
        if any(map(drops_remainder, through(data))):
            raise ValueError(
                "After `tfdp.shard` no worker knows what all of them would "
                "drop. Received: `batch(..., drop_remainder=True)` of "
                f"{len(whole)} elements on {own.num_workers} workers. Drop "
                "elements before the mark, by a slice of the MapDataset."
            )
