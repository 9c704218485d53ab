"""What a dataset reads, as a number that other workers can compare."""

import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from tfdp.upstream.tensorflow import tf_datasets

_OCTETS = 2**26
_ELEMENTS = 64
# Smaller tables may be a seed or a size of a worker's own.
_TABLE = 8


def digest_of_sources(dataset: tf.data.Dataset) -> int:
    """CRC of what a pipeline reads and looks up, before any shuffling.

    Of arrays in memory each row counts; of large ones, parts of each. Of other
    sources the first elements do.

    Args:
        dataset: Any.
    """
    digest = 0
    for source in tf_datasets.source_datasets(dataset):
        for octets in _of_source(source):
            digest = zlib.crc32(octets, digest)
    for node in tf_datasets.through(dataset):
        for table in tf_datasets.tables(node, _TABLE):
            octets = table if isinstance(table, bytes) else octets_of(table)
            digest = zlib.crc32(octets, digest)
    return digest


def octets_of(tensor: tf.Tensor) -> bytes:
    """Returns what a tensor holds; of a large one, parts of each row."""
    if tensor.dtype == tf.string:
        tensor = tf.strings.to_hash_bucket_fast(tensor, 2**62)
    values = np.asarray(tensor)
    if values.nbytes > _OCTETS and values.ndim:
        rows = values.reshape(len(values), -1)
        values = rows[:, :: values.nbytes // _OCTETS + 1]
    return np.ascontiguousarray(values).tobytes()


def _of_source(source: tf.data.Dataset) -> Iterable[bytes]:
    held = tf_datasets.tensors(source)
    if held and all(tensor.dtype != tf.variant for tensor in held):
        return map(octets_of, held)
    count = int(source.cardinality())
    is_cheap = bool(held) and count > _ELEMENTS
    some = source.shard(count // _ELEMENTS, 0) if is_cheap else source
    return (
        octets_of(leaf)
        for element in some.take(2 * _ELEMENTS if is_cheap else _ELEMENTS)
        for leaf in tf.nest.flatten(element, expand_composites=True)
        if _is_readable(leaf)
    )


def _is_readable(leaf: Any) -> bool:
    return isinstance(leaf, tf.Tensor) and leaf.dtype != tf.variant
