"""How long XLA has taken, and when."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import tensorflow as tf

from tfdp.step import GraphClock, tensors_in

_FEW = 8  # Shapes of a replica's batches.


class CompileTimes:
    """Notes when compiled functions were called with shapes that were new.

    XLA compiles a function for the shapes that it is called with, when it is.
    Nothing says so but the time that the first call with them takes.

    Attributes:
        spans: When such calls began and ended, of all replicas of this
            worker, by the clock of `time.time`.
    """

    def __init__(self) -> None:
        self.spans: list[tuple[float, float]] = []
        self._told = 0
        self._has_told = False
        self._clock = GraphClock(None)

    @property
    def count(self) -> int:
        """How often a replica of this worker was compiled."""
        return len(self.spans)

    def begin(self) -> Self:
        """Has `in_words` tell of what is compiled from now on."""
        self._told = self.count
        return self

    def in_words(self) -> str:
        """Returns a line about what was compiled; nothing if nothing was."""
        spans = self.spans[self._told :]
        if not spans:
            return ""
        return (
            f"compiled by XLA {len(spans)} times, for each replica here and "
            f"shape of its batches, in {_covered(spans):.1f} s that are in no "
            "rate"
        )

    def noted(
        self, function: Callable[..., Any], arguments: Sequence[Any]
    ) -> Any:
        """Calls a compiled function, on one replica, within a graph.

        Args:
            function: The function.
            arguments: What to call it with.

        Returns:
            What it returned.
        """
        with tf.init_scope(), tf.device("CPU"):
            seen = tf.lookup.experimental.MutableHashTable(
                tf.int64, tf.int64, 0
            )
        shapes = _shapes(tensors_in(arguments))
        begin = self._clock.beside(seen.resource_handle)
        with tf.control_dependencies([begin]):
            outputs = function(*arguments)
        with tf.control_dependencies(tensors_in(outputs)):
            end = self._clock.beside(seen.resource_handle)

        places = itertools.count(1)

        def note() -> tf.Tensor:
            seen.insert(shapes, tf.ones([], tf.int64))
            return tf.numpy_function(
                lambda *span: self._note(span, next(places)),
                [begin, end],
                tf.int64,
            )

        tf.cond(
            tf.equal(seen.lookup(shapes), 0),
            note,
            lambda: tf.zeros([], tf.int64),
        )
        return outputs

    def _note(self, span: tuple[Any, ...], place: int) -> np.ndarray:
        begin, end = map(float, span)
        self.spans.append((begin, end))
        if place > _FEW and not self._has_told:
            self._has_told = True
            print(
                f"tfdp: XLA compiles for each shape of a replica's batch, and "
                f"has met {place} of them, in {_covered(self.spans):.1f} s so "
                "far. Make them few: pad sequences to some lengths, or "
                'compile with jit_compile="auto".',
                flush=True,
            )
        return np.zeros((), np.int64)


def _covered(spans: Sequence[tuple[float, float]]) -> float:
    """Returns the seconds that spans cover, which may overlap."""
    total, until = 0.0, -math.inf
    for begin, end in sorted(spans):
        total += max(end - max(begin, until), 0.0)
        until = max(until, end)
    return total


def _shapes(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns a number that no other shapes have, but by great chance."""
    sizes = [
        tf.shape(each, tf.int64)
        for each in tensors
        if not each.shape.is_fully_defined()
    ]
    if not sizes:
        return tf.zeros([], tf.int64)
    every = tf.concat(sizes, 0)
    factors = np.random.default_rng(0).integers(2**40, size=int(every.shape[0]))
    return tf.reduce_sum(every * factors)
