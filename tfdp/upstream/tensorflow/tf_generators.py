"""What generators of Python's yield to datasets.

A doorway to private names of TensorFlow, each of which has a contract in
`tests/upstream/test_tf_generators.py`.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

import tensorflow as tf

from tfdp.upstream.private import Member, Name

_ORDER = "generators that yield in different orders would not be noticed"
_registry = Name("tensorflow.python.ops.script_ops._py_funcs", serves=_ORDER)
_funcs = Member("_funcs", serves=_ORDER)
_func = Member("_func", serves=_ORDER)
_functions = Member("_functions", serves=_ORDER)
_HEARS = "tfdp_hears"


class Hears(Protocol):
    """What is told of the elements of a generator."""

    def heard(self, number: int, element: list[Any]) -> None:
        """Takes note of an element.

        Args:
            number: Which iteration it is of, of all that were begun.
            element: Its parts: arrays, or tensors of all kinds.
        """

    def ended(self, number: int) -> None:
        """Takes note of the end of an iteration."""


Hearer = TypeVar("Hearer", bound=Hears)


def hear(dataset: tf.data.Dataset, make: Callable[[], Hearer]) -> Hearer | None:
    """Has what a generator yields be told, wherever it is iterated.

    Args:
        dataset: Any.
        make: Makes what is told.

    Returns:
        What was made; at an earlier call, if the generator is told of already.
        `None` where the dataset is not that of a generator.
    """
    name = _name_of_next(dataset)
    if name is None:
        return None
    by_name = _funcs.of(_registry.find())
    function = by_name[name]
    hearer: Hearer | None = vars(function).get(_HEARS)
    if hearer is None:
        hearer = make()
        if hasattr(function, "_func"):
            # Of what is no array. TensorFlow looks at its class.
            _func.replace(function, _telling(_func.of(function), hearer))
            vars(function)[_HEARS] = hearer
        else:
            telling = _telling(function, hearer)
            vars(telling)[_HEARS] = hearer
            # TensorFlow keeps it for as long as the function itself.
            vars(function)["tfdp_telling"] = telling
            by_name[name] = telling
    return hearer


def _telling(function: Callable[..., Any], hearer: Hears) -> Callable[..., Any]:
    @functools.wraps(function)
    def telling(number: Any) -> Any:
        try:
            element = function(number)
        except StopIteration:
            hearer.ended(int(number))
            raise
        hearer.heard(int(number), list(element))
        return element

    return telling


def _name_of_next(dataset: tf.data.Dataset) -> str | None:
    for wrapper in _functions.of(dataset)():
        graph = wrapper.function.graph.as_graph_def()
        library = {f.signature.name: f.node_def for f in graph.library.function}
        for node in graph.node:
            if node.op == "GeneratorDataset":
                called = library[node.attr["next_func"].func.name]
                return next(_names_of_python(called), None)
    return None


def _names_of_python(nodes: Any) -> Iterator[str]:
    for node in nodes:
        if "PyFunc" in node.op:
            yield node.attr["token"].s.decode()
