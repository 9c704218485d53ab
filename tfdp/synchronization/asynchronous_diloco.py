"""Rounds of local updates of workers that do not wait, and their server."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from tfdp.asynchronous.description import Description
from tfdp.asynchronous.exchange import Exchange
from tfdp.asynchronous.feed import Feed
from tfdp.asynchronous.received import Weights
from tfdp.step import Gradient
from tfdp.synchronization.asynchronous import Asynchronous
from tfdp.synchronization.diloco import DiLoCo
from tfdp.synchronization.inner_optimizer import checked_copy
from tfdp.synchronization.synchronization import Reduced
from tfdp.synchronization.synchronous import Synchronous
from tfdp.synchronization.variables import Slots


class AsynchronousDiLoCo(Asynchronous):
    """Local updates whose sum is the gradient of the server's optimizer.

    Asynchronous DiLoCo (Liu et al. 2024, Algorithm 2): a worker makes
    `sync_every` updates by the inner optimizer, its replicas together, and
    sends the weights that it began with minus those that it has. By that the
    server makes an update of the outer optimizer, and the worker goes on from
    the newest weights. A round is short where the batches are at an end.

    `DistributedOptimizer` takes it by itself for a `DiLoCo` in the scope of an
    `AsynchronousStrategy`. The slots, the rate and `iterations` of the inner
    optimizer are this worker's own; those of the outer one are the server's,
    whose `iterations` are the rounds of all workers.

    Args:
        way: What the user has given.
    """

    keeps_up = holds_weights = False
    refuses = {
        **Asynchronous.refuses,
        "start": "`start`, as workers never update together. Leave it out, or "
        "use a synchronous strategy.",
        "buffers": "means of slots, which workers never take. Use "
        "buffers='maintain' or 'reset'.",
        "use_ema": "averages of weights, which each worker would have of its "
        "own. Leave `use_ema` out, or use a synchronous strategy.",
    }

    def __init__(self, way: DiLoCo) -> None:
        self.sync_every, self.buffers = way.sync_every, way.buffers
        self.outer_optimizer = way.outer_optimizer
        if way.start:
            self.refuse("start", f"start={way.start}")
        if way.buffers == "average":
            self.refuse("buffers", f"buffers={way.buffers!r}")

    def of(self, *args: Any, **settings: Any) -> Self:
        """Returns a copy that updates by an optimizer; see the base class."""
        own = super().of(*args, **settings)
        if any(each.use_ema for each in own.optimizers):
            own.refuse("use_ema", "use_ema=True")
        own.outer_optimizer = checked_copy(self.outer_optimizer)
        return own

    def build(
        self,
        variables: Sequence[keras.Variable],
        owner: keras.optimizers.Optimizer,
    ) -> None:
        """Creates the slots of both optimizers."""
        super().build(variables, owner)
        self.outer_optimizer.build(variables)
        # For TensorFlow's checkpoints.
        owner.outer_variables = [v.value for v in self.variables]
        self._reset: list[Slots] = []
        if self.buffers == "reset":
            self._reset = [Slots(each) for each in self.optimizers]
        self._begun: list[np.ndarray] = []
        self._trained: set[int] = set()
        # Of the round under way, which no process outlives.
        self._round_step, self._is_last = 0, False

    def begin(self, exchange: Exchange, feed: Feed) -> None:
        """Begins to exchange; a round that an error has cut short is none."""
        super().begin(exchange, feed)
        self._round_step, self._trained = 0, set()

    @property
    def served_optimizer(self) -> keras.optimizers.Optimizer:
        """The outer one."""
        return self.outer_optimizer

    @property
    def variables(self) -> list[keras.Variable]:
        """The state of the outer optimizer, as it is known here."""
        return list(self.outer_optimizer.variables)

    def describe(
        self,
        statistics: Sequence[keras.Variable],
        sums: Sequence[keras.Variable],
    ) -> Description:
        """Returns what the server is to train; see the base class."""
        description = super().describe(statistics, sums)
        local = _comparable(self.inner_optimizer)
        return dataclasses.replace(description, local=local)

    def apply(
        self, reduced: Reduced, variables: Sequence[keras.Variable]
    ) -> None:
        """Makes the update of this worker, and ends a round when it is time."""
        Synchronous.apply(self, reduced, variables)
        places = {self.place_by_id[id(each)] for each in variables}

        def count() -> np.bool_:
            self._round_step += 1
            self._trained |= places
            is_over = self._round_step >= self.sync_every
            return np.bool_(is_over or self._is_last)

        def end_update(
            strategy: tf.distribute.Strategy, gradients: Sequence[Any]
        ) -> None:
            self.count_update()
            # Else TensorFlow may count before the step has begun.
            with tf.control_dependencies(
                [
                    each
                    for gradient in gradients
                    for each in strategy.experimental_local_results(gradient)
                ]
            ):
                self._exchange_if(strategy, count)

        tf.distribute.get_replica_context().merge_call(
            end_update, args=(_tensors(reduced.gradients),)
        )

    def skip(self) -> None:
        """Leaves an update out of the round, which may end by that."""
        self._exchange_if(
            tf.distribute.get_strategy(), lambda: np.bool_(self._is_last)
        )

    @property
    def is_under_way(self) -> bool:
        """Whether updates were made that the server does not know of."""
        return self._round_step > 0

    @property
    def is_complete(self) -> bool:
        """Whether all updates are in the weights of the server."""
        return not self.is_under_way

    def complete(self, strategy: tf.distribute.Strategy) -> None:
        """Ends a round before its time."""
        self.take_over(self._sent_round(self.values(), then_read=False))
        with strategy.scope():
            for slots in self._reset:
                slots.reset(strategy)

    def _exchange_if(
        self, strategy: tf.distribute.Strategy, ends: Callable[[], np.bool_]
    ) -> None:
        is_over = tf.numpy_function(ends, [], tf.bool)
        is_over.set_shape(())

        def exchange() -> tf.Tensor:
            here = [tf.convert_to_tensor(v.value) for v in self.trained]
            self.assign(
                self.received(lambda *here: self._sent_round(here), here)
            )
            for slots in self._reset:
                slots.reset(strategy)
            return tf.constant(0)

        tf.cond(is_over, exchange, lambda: tf.constant(0))

    def _sent_round(
        self, here: Sequence[np.ndarray], *, then_read: bool = True
    ) -> Weights:
        if not self._round_step:
            # All of its updates were skipped.
            return self.sent_nothing()
        moved = [
            _moved(variable, begun, now) if place in self._trained else None
            for place, (variable, begun, now) in enumerate(
                zip(self.trained, self._begun, here, strict=True)
            )
        ]
        self._round_step, self._trained = 0, set()
        return self.sent(moved, then_read=then_read)

    def read_for_step(self) -> tuple[np.bool_, np.bool_]:
        """Returns what the base class does, and notes it."""
        is_new, is_last = super().read_for_step()
        self._is_last = bool(is_last)
        return is_new, is_last

    def received(
        self, ask: Callable[..., Weights], given: Sequence[tf.Tensor]
    ) -> list[tf.Tensor]:
        """Returns what the base class does; a round begins with it."""

        def noted(*given: np.ndarray) -> Weights:
            weights = ask(*given)
            # TensorFlow may update what it is given in place.
            self._begun = [np.array(value) for value in weights.values]
            self._round_step, self._trained = 0, set()
            return weights

        return super().received(noted, given)


def _comparable(optimizer: keras.optimizers.Optimizer) -> dict[str, Any]:
    """What a message can hold of it, without a rate that may have changed."""
    made = keras.saving.serialize_keras_object(optimizer)
    config = json.loads(json.dumps(made, default=str))
    if isinstance(config["config"].get("learning_rate"), float):
        del config["config"]["learning_rate"]
    return config


def _tensors(gradients: Sequence[Gradient]) -> list[tf.Tensor]:
    return [
        each.values if isinstance(each, tf.IndexedSlices) else each
        for each in gradients
    ]


def _moved(
    variable: keras.Variable, begun: np.ndarray, now: np.ndarray
) -> np.ndarray:
    # Of some the gradient is the new value, as of scales in float8.
    if getattr(variable, "overwrite_with_gradient", False):
        return now
    return np.asarray(begun - now)
