"""The edges of a fit of workers that do not wait for each other's steps."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfdp.optimizer import DistributedOptimizer
from tfdp.strategy import AsynchronousStrategy
from tfdp.synchronization import Asynchronous
from tfdp.upstream.keras import inspection, keras_fit, keras_optimizers


class Apart:
    """Joins a fit, and brings workers together at the end of each epoch.

    Args:
        model: The model that is fitted.
        params: Parameters of the fit.
        callbacks: All callbacks of the fit.
        optimizers: Those of the model that are tfdp's.

    Raises:
        RuntimeError: If the server cannot train what the model trains.
    """

    def __init__(
        self,
        model: keras.Model,
        params: dict[str, Any],
        callbacks: Sequence[keras.callbacks.Callback],
        optimizers: Sequence[DistributedOptimizer],
    ) -> None:
        self._model, self._params = model, params
        self._strategy: AsynchronousStrategy = model.distribute_strategy
        self._optimizer = _only(model, optimizers)
        self._way: Asynchronous = self._optimizer.synchronized_by  # type: ignore[assignment]
        self._statistics = [
            each
            for each in inspection.statistics(model)
            if tf.as_dtype(each.dtype).is_floating
        ]
        _check_alone(callbacks)
        self._exchange = self._strategy.connect()
        self._epoch, self._settled = 0, -1
        self._steps = 0
        self._rate: float | None = None

    def begin(self) -> None:
        """Joins the fit where the others are; the chief says what it is of."""
        exchange = self._exchange
        where = exchange.join(
            self._way.describe(self._statistics),
            self._way.values(),
        )
        if self._strategy.is_chief:
            # What is here may have been set or loaded since the last one.
            exchange.load(self._way.state_of(list(exchange.save())))
        feed = self._strategy.feed
        feed.begin(exchange, looks_ahead=self._optimizer.accumulation_steps > 1)
        self._way.begin(exchange, feed if feed.is_used else None)
        if where["is_over"]:
            keras_fit.begin_at_epoch(self._model, self._params["epochs"])
        elif where["epoch"] is not None:
            keras_fit.begin_at_epoch(self._model, where["epoch"])

    def begin_epoch(self, epoch: int) -> None:
        """Begins an epoch, once all callbacks have seen it begin.

        Args:
            epoch: Its index.
        """
        keras_fit.begin_at_epoch(self._model, None)
        self._epoch, self._steps = epoch, 0
        self._strategy.feed.begin_epoch(epoch)

    def begin_step(self) -> None:
        """Tells the server of another learning rate, on the chief."""
        self._steps += 1
        if self._strategy.is_chief:
            rate = self._rate_here()
            if rate is not None and rate != self._rate:
                if self._rate is not None:
                    self._exchange.set_learning_rate(rate)
                self._rate = rate

    def stop(self) -> None:
        """Has all workers end the fit, after what they compute now."""
        self._exchange.stop()

    def settle(self) -> None:
        """Takes the weights that all have made, and averages statistics."""
        if self._settled == self._epoch:
            return
        self._settled = self._epoch
        exchange = self._exchange
        exchange.release()
        weights = exchange.read()
        if weights is not None:
            self._way.take_over(weights)
        means = exchange.average(
            self._epoch,
            [v.numpy() for v in self._statistics],
            samples=self._steps,
        )
        for variable, mean in zip(self._statistics, means, strict=True):
            variable.assign(mean)

    def gather(self) -> None:
        """Takes the server's slots and counts, for whoever saves the model."""
        if self._strategy.is_chief:
            self._way.load_state(self._exchange.save())

    def stops(self, *, own: bool) -> bool:
        """Returns whether a worker wants to end the fit after this epoch.

        Args:
            own: Whether this one does.
        """
        return self._exchange.vote(self._epoch, stops=own)

    def _rate_here(self) -> float | None:
        """The learning rate, where it is a number and no schedule."""
        inner = self._way.inner_optimizer
        if keras_optimizers.is_multi_optimizer(inner):
            return None
        rate = keras_optimizers.given_rate(inner)
        return rate if isinstance(rate, float) else None


def _only(
    model: keras.Model, optimizers: Sequence[DistributedOptimizer]
) -> DistributedOptimizer:
    found = inspection.optimizers(model)
    if len(found) == len(optimizers) == 1 and optimizers[0].built:
        return optimizers[0]
    received = ", ".join(type(each).__name__ for each in found) or "none"
    if len(found) == len(optimizers) == 1:
        received = "one that is not built, of a model without weights yet"
    raise RuntimeError(
        "In an AsynchronousStrategy one server trains one model, by one "
        f"`tfdp.DistributedOptimizer`. Received: {received}. Give `compile` "
        "`optimizer=tfdp.DistributedOptimizer(...)`, build the model before "
        "`fit`, and train several optimizers by a synchronous strategy."
    )


def _check_alone(callbacks: Sequence[keras.callbacks.Callback]) -> None:
    for callback in callbacks:
        if getattr(callback, "is_collective", False):
            raise RuntimeError(
                "Workers that train asynchronously do not meet in callbacks. "
                f"Received: {type(callback).__name__}, which is collective. "
                "Leave it out, or use a synchronous strategy."
            )
