"""Iterators over the batches of all replicas.

A doorway to private names of TensorFlow, each of which has a contract in
`tests/upstream/test_tf_iterators.py`.
"""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfdp.upstream.private import Member, Name, optional

_STARTING = "starting a step counts as waiting for data"
_ASKING = "workers ask each other in each of several steps at once for data"
_type_spec = Member("_type_spec", serves=_STARTING)
_from_components = Member("_from_components", serves=_STARTING)
_iterators = Member("_iterators", serves=_ASKING)
_element_spec = Member("_element_spec", serves=_ASKING)
_strategy = Member("_strategy", serves=_ASKING)
_create_per_replica = Name(
    "tensorflow.python.distribute.input_lib._create_per_replica",
    serves=_ASKING,
)


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
    return _changed(iterator, announce)


def asking_nobody(iterator: Any) -> Any:
    """Has an iterator ask no other worker whether there is one more batch.

    Args:
        iterator: A `tf.distribute.DistributedIterator`, which is changed, of
            data of which all replicas have as many batches.

    Returns:
        The iterator.
    """
    return _changed(iterator)


def _changed(iterator: Any, *announce: Callable[[], tf.Tensor]) -> Any:
    with optional():
        spec = _type_spec.of(iterator)
        _from_components.check(spec)
        types: tuple[Any, Any] = type(iterator), type(spec)
        iterator.__class__ = _changed_type(*types, *announce)
    return iterator


@functools.lru_cache(maxsize=32)
def _changed_type(
    iterator_type: Any,
    spec_type: Any,
    announce: Callable[[], tf.Tensor] | None = None,
) -> type:
    changed: Any = (
        _asking_nobody(iterator_type)
        if announce is None
        else _announcing(iterator_type, announce)
    )

    class Changed(changed):
        @property
        def _type_spec(self) -> Any:
            spec = _type_spec.of(super())
            spec.__class__ = ChangedSpec
            return spec

    class ChangedSpec(spec_type):
        __slots__ = ()

        @property
        def value_type(self) -> type:
            return Changed

        def _from_components(self, components: Any) -> Any:
            iterator = _from_components.of(super())(components)
            iterator.__class__ = Changed
            return iterator

    return Changed


def _announcing(iterator_type: Any, announce: Callable[[], tf.Tensor]) -> type:
    class Announcing(iterator_type):
        def get_next(self, *args: Any, **kwargs: Any) -> Any:
            with tf.control_dependencies([announce()]):
                return super().get_next(*args, **kwargs)

        def get_next_as_optional(self) -> Any:
            with tf.control_dependencies([announce()]):
                return super().get_next_as_optional()

    return Announcing


def _asking_nobody(iterator_type: Any) -> type:
    class AskingNobody(iterator_type):
        def get_next_as_optional(self) -> Any:
            with optional():
                return _next_of_own(self)
            return super().get_next_as_optional()

    return AskingNobody


def _next_of_own(iterator: Any) -> Any:
    create_per_replica = _create_per_replica.find()
    spec, strategy = _element_spec.of(iterator), _strategy.of(iterator)
    (own,) = _iterators.of(iterator)
    batches = own.get_next_as_optional_list()

    def batch() -> Any:
        values = []
        for each, device in zip(
            batches, strategy.extended.worker_devices, strict=True
        ):
            with tf.device(device):
                values.append(each.get_value())
        return tf.experimental.Optional.from_value(
            create_per_replica(values, strategy)
        )

    return tf.cond(
        batches[0].has_value(),
        batch,
        lambda: tf.experimental.Optional.empty(spec),
    )
