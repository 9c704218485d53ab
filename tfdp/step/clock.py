"""The clock that is read inside of a graph."""

import functools
from collections.abc import Callable

import tensorflow as tf


class GraphClock:
    """Tells the time where a graph comes to, and not before.

    Args:
        clock: Returns the time in seconds; `None` for TensorFlow's own, which
            is that of `time.time`.
    """

    def __init__(self, clock: Callable[[], float] | None) -> None:
        self._clock = clock

    def now(self) -> tf.Tensor:
        """Returns the time, maybe ordered after other side effects."""
        return self._read(None)

    def beside(self, resource: tf.Tensor) -> tf.Tensor:
        """Returns the time, ordered only after what used `resource` before.

        TensorFlow chains operations with side effects, those of other
        replicas too, unless they are about a resource, as a call is.

        Args:
            resource: Handle of a variable.
        """
        return self._call(resource)

    @functools.cached_property
    def _call(self) -> Callable[[tf.Tensor], tf.Tensor]:
        return tf.function(self._read)

    def _read(self, resource: tf.Tensor | None) -> tf.Tensor:
        if self._clock is None:
            return tf.timestamp()
        time = tf.py_function(self._clock, [], tf.float64)
        return tf.ensure_shape(time, ())
