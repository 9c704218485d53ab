"""What generators have yielded, so that workers can compare it."""

import array
import itertools
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tfdp.data.mark import is_marked, wholes
from tfdp.upstream.tensorflow import tf_datasets, tf_generators

_KEPT = 4
_SAMPLED = 4096


class Yields:
    """A digest of what a generator has yielded, in each of its iterations."""

    def __init__(self) -> None:
        self._digests: dict[int, array.array[int]] = {}

    def heard(self, number: int, element: list[Any]) -> None:
        """Takes note of an element of an iteration."""
        parts = [part for leaf in element for part in _octets(leaf)]
        self._note(number, b"".join(parts))

    def ended(self, number: int) -> None:
        """Takes note of the end of an iteration."""
        self._note(number, b"end")

    def counts(self) -> dict[int, int]:
        """How many elements are known of each of the last iterations."""
        return {n: len(digests) for n, digests in self._digests.items()}

    def digest(self, number: int, count: int) -> int:
        """Returns a digest of the first elements of an iteration."""
        return self._digests[number][count - 1]

    def _note(self, number: int, octets: bytes) -> None:
        if number not in self._digests:
            for oldest in sorted(self._digests)[: 1 - _KEPT]:
                del self._digests[oldest]
            self._digests[number] = array.array("I")
        digests = self._digests[number]
        before = digests[-1] if digests else 0
        digests.append(zlib.crc32(octets, before))


def yields(dataset: tf.data.Dataset) -> list[Yields]:
    """Has what generators yield be noted, whose order all workers share.

    Not of those inside of `interleave` or `flat_map`, whose iterations begin
    in any order.

    Args:
        dataset: Any; where it is marked, what stands before the mark counts.
    """
    parts = [dataset]
    if is_marked(dataset):
        parts = [whole for _, whole in wholes(dataset)]
    found = (
        tf_generators.hear(node, Yields)
        for node in itertools.chain.from_iterable(
            map(tf_datasets.through, parts)
        )
    )
    return list(dict.fromkeys(filter(None, found)))


def _octets(leaf: Any) -> Iterator[bytes]:
    if isinstance(leaf, tf.Tensor) and leaf.dtype == tf.variant:
        return
    values = np.asarray(leaf)
    some = values.reshape(-1)[:: values.size // _SAMPLED + 1]
    yield str(values.shape).encode()
    if values.dtype.hasobject:
        yield repr(some.tolist()).encode()
    else:
        yield np.ascontiguousarray(some).tobytes()
