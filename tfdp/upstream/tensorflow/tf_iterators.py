"""Iterators over the batches of all replicas.

A doorway to private names of TensorFlow, each of which has a contract in
`tests/upstream/test_tf_iterators.py`.
"""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfdp.upstream.private import Member, optional

_STARTING = "starting a step counts as waiting for data"
_type_spec = Member("_type_spec", serves=_STARTING)
_from_components = Member("_from_components", serves=_STARTING)


def announcing(iterator: Any, announce: Callable[[], tf.Tensor]) -> Any:
    """Has an iterator tell of each batch before it is asked for.

    In a graph too, which is given another iterator of the same type. Graphs
    that were made for one that does not tell, or tells others, are not used
    for it.

    Args:
        iterator: A `tf.distribute.DistributedIterator`, which is changed.
        announce: Called in the graph; its tensor is there before the batch is
            asked for.

    Returns:
        The iterator.
    """
    with optional():
        spec = _type_spec.of(iterator)
        _from_components.check(spec)
        types: tuple[Any, Any] = type(iterator), type(spec)
        iterator.__class__ = _announcing(*types, announce)
    return iterator


@functools.lru_cache(maxsize=16)
def _announcing(
    iterator_type: Any, spec_type: Any, announce: Callable[[], tf.Tensor]
) -> type:
    class Announcing(iterator_type):
        @property
        def _type_spec(self) -> Any:
            spec = _type_spec.of(super())
            spec.__class__ = AnnouncingSpec
            return spec

        def get_next(self, *args: Any, **kwargs: Any) -> Any:
            with tf.control_dependencies([announce()]):
                return super().get_next(*args, **kwargs)

        def get_next_as_optional(self) -> Any:
            with tf.control_dependencies([announce()]):
                return super().get_next_as_optional()

    class AnnouncingSpec(spec_type):
        __slots__ = ()

        @property
        def value_type(self) -> type:
            return Announcing

        def _from_components(self, components: Any) -> Any:
            iterator = _from_components.of(super())(components)
            iterator.__class__ = Announcing
            return iterator

    return Announcing
