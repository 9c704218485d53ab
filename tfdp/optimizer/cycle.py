"""The micro-batches between one update and the next."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdp.optimizer.accumulation import Accumulator
from tfdp.step import Gradient, LossWeight

_PREFIX = "accumulated_"


class Cycle:
    """Counts micro-batches, keeps their gradients, and ends when it is time.

    Args:
        length: Micro-batches per update; at least 1.
        strategy: The strategy that the optimizer was created in.
        micro_step: Variable, micro-batches since the last update.
        variables: The variables that the optimizer trains.
        end: Called in cross-replica context as `end(strategy, is_step)` to
            update with what was gathered; `is_step` tells the end of a whole
            cycle, inside of a step, from a flush.
    """

    def __init__(
        self,
        length: int,
        strategy: tf.distribute.Strategy,
        micro_step: keras.Variable,
        variables: Sequence[keras.Variable],
        end: Callable[[tf.distribute.Strategy, bool], None],
    ) -> None:
        self._length = length
        self._strategy = strategy
        self._micro_step = micro_step
        self._end = end
        if length > 1:
            self._accumulator = Accumulator(variables)
            # One graph for each kind of cycle.
            self._flush = tf.function(
                lambda *kind: end(strategy, False), autograph=False
            )

    @property
    def variables(self) -> list[tf.Variable]:
        """What a checkpoint must hold, where it can.

        On several workers they would wait for each other, where the chief
        alone saves.
        """
        if self._length == 1 or getattr(self._strategy, "num_workers", 1) > 1:
            return []
        return self._accumulator.variables

    @property
    def is_under_way(self) -> bool:
        """Whether micro-batches were seen that no update has used yet."""
        return self._length > 1 and bool(self._micro_step.numpy())

    @property
    def places(self) -> tuple[int, ...]:
        """Places of the variables that micro-batches give gradients for."""
        return self._accumulator.places

    def add(
        self,
        gradients: Sequence[Gradient],
        places: Sequence[int],
        weight: LossWeight,
        factor: tf.Tensor,
        scatter: tf.Tensor | None,
    ) -> None:
        """Takes a micro-batch, in replica context; ends the cycle after K.

        Args:
            gradients: Gradients of this replica.
            places: For each gradient, the place of its variable.
            weight: The weight of these gradients.
            factor: Scalar, to multiply them with.
            scatter: What they add to the sums that moments are of.

        Raises:
            ValueError: As `Accumulator.add` does.
        """
        self._accumulator.add(gradients, places, weight, factor, scatter)
        tf.distribute.get_replica_context().merge_call(self._end_micro_step)

    def take(self) -> tuple[list[tf.Tensor], tf.Tensor | None, tf.Tensor]:
        """Returns this replica's sums, their weight and scatter, once."""
        return self._accumulator.take()

    def begin(self) -> None:
        """Begins the next cycle, in cross-replica context."""
        self._micro_step.assign(0)

    def flush(self, kind: Hashable) -> None:
        """Updates with what an unfinished cycle has gathered, if anything.

        Args:
            kind: What else the graph of an update depends on.
        """
        if self.is_under_way:
            with self._strategy.scope():
                self._flush(*self._accumulator.kind, kind)

    def save(self, store: Any) -> None:
        """Saves a cycle that is under way: a collective, if one is.

        Args:
            store: Mapping to save to, by name.
        """
        if self.is_under_way:
            for name, total in self._accumulator.state().items():
                store[name] = total

    def load(self, store: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Goes on with the cycle that was under way, if one was.

        Args:
            store: Mapping to load from, by name.

        Returns:
            What else there is.

        Raises:
            ValueError: If one was, and this optimizer does not accumulate.
        """
        state = {name: store[name][()] for name in store.keys()}  # noqa: SIM118
        names = [name for name in state if name.startswith(_PREFIX)]
        saved = {name: state.pop(name) for name in names}
        if self._length > 1:
            self._accumulator.restore(saved)
        elif saved:
            raise ValueError(
                "A state saved in the middle of an accumulation cycle must be "
                "loaded by an optimizer that accumulates. Received: "
                "accumulation_steps=1. Pass the `accumulation_steps` that it "
                "was saved with, or save after `optimizer.flush()`."
            )
        return state

    def _end_micro_step(self, strategy: tf.distribute.Strategy) -> None:
        # In cross-replica context, because TensorFlow allows no condition
        # around an update in replica context.
        self._micro_step.assign(self._micro_step.value + 1)

        def end() -> tf.Tensor:
            self._end(strategy, True)
            return tf.constant(0)

        tf.cond(
            # Greater, where a cycle was begun with more steps and then saved.
            self._micro_step.value >= self._length,
            end,
            lambda: tf.constant(0),
        )
