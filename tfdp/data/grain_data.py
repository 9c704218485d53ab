"""What Grain keeps inside of its datasets and loaders.

The private names of Grain's, each of which has a contract in
`tests/data/test_grain_data.py`. Grain is never imported here: where a program
has none of its datasets, it may not be installed.
"""

import sys
from collections.abc import Iterator
from typing import Any

from tfdp.upstream.private import Member

_SPLIT = "a dataset of Grain's cannot be split by tfdp.shard"
_parents = Member("_parents", serves=_SPLIT)
_shard_options = Member("_shard_options", serves=_SPLIT)
_drop_remainder = Member("_drop_remainder", serves=_SPLIT)


def is_grain(value: Any, *kinds: str) -> bool:
    """Whether a value is of one of Grain's classes.

    Args:
        value: Anything.
        kinds: Names of classes, such as `"MapDataset"`.
    """
    grain = sys.modules.get("grain")
    classes = tuple(getattr(grain, kind, ()) for kind in kinds)
    return grain is not None and isinstance(value, classes)


def through(dataset: Any) -> Iterator[Any]:
    """Goes through a dataset and all that it is made of."""
    yield dataset
    for parent in parents(dataset):
        yield from through(parent)


def parents(dataset: Any) -> list[Any]:
    """Returns the datasets that a dataset is made of."""
    return list(_parents.of(dataset))


def shard_of(loader: Any) -> tuple[int, int]:
    """Returns which shard a `grain.DataLoader` reads, and of how many."""
    options = _shard_options.of(loader)
    return options.shard_index, options.shard_count


def drops_remainder(dataset: Any) -> bool:
    """Whether a dataset leaves out a last, smaller batch."""
    kind = type(dataset).__name__
    return "Batch" in kind and bool(_drop_remainder.of(dataset))
