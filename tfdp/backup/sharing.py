"""The chief's backup, for workers that do not see its files."""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tfdp.agreement import Workers, broadcast, gather_objects
from tfdp.backup.backup_folder import Backup

# Workers meet once for so much; more at once would be in memory several times.
_BYTES_AT_ONCE = 2**24
# Of an array: its name, its shape and its type.
_Described = tuple[str, Sequence[int], str]


def shared(strategy: Workers, backup: Backup | None) -> Backup | None:
    """Gives every worker the chief's backup; a collective.

    Args:
        strategy: The strategy whose workers meet.
        backup: What the chief has read, if anything; not looked at on others.

    Returns:
        The chief's, or `None` where it has none.
    """
    if strategy.num_workers == 1:
        return backup
    own = backup and [
        backup.about,
        [(name, a.shape, a.dtype.str) for name, a in backup.arrays.items()],
    ]
    of_chief = gather_objects(strategy, own)[0]
    if of_chief is None:
        return None
    about, described = of_chief
    arrays: dict[str, np.ndarray] = {}
    for pack in _packs(described):
        octets = _octets(backup.arrays, pack) if backup else _zeros(pack)
        arrays.update(_unpacked(broadcast(strategy, octets), pack))
    return Backup(arrays, about)


def _packs(described: Sequence[_Described]) -> Iterator[list[_Described]]:
    pack: list[_Described] = []
    size = 0
    for each in described:
        if pack and size + _size(each) > _BYTES_AT_ONCE:
            yield pack
            pack, size = [], 0
        pack.append(each)
        size += _size(each)
    if pack:
        yield pack


def _size(described: _Described) -> int:
    _, shape, kind = described
    return math.prod(shape) * np.dtype(kind).itemsize


def _octets(
    arrays: Mapping[str, np.ndarray], pack: Sequence[_Described]
) -> np.ndarray:
    flat = [np.ascontiguousarray(arrays[name]).ravel() for name, *_ in pack]
    return np.concatenate([each.view(np.uint8) for each in flat])


def _zeros(pack: Sequence[_Described]) -> np.ndarray:
    return np.zeros(sum(map(_size, pack)), np.uint8)


def _unpacked(
    octets: np.ndarray, pack: Sequence[_Described]
) -> Iterator[tuple[str, np.ndarray]]:
    begin = 0
    for name, shape, kind in pack:
        end = begin + _size((name, shape, kind))
        # On its own, and so aligned.
        own = octets[begin:end].copy()
        yield name, own.view(kind).reshape(shape)
        begin = end
