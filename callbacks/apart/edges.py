"""The edges of a fit of workers that do not wait for each other's steps."""

import contextlib
import dataclasses
import functools
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdp.asynchronous.session import ServerLost
from tfdp.backup import Handover
from tfdp.callbacks.apart.fit_watch import FitWatch
from tfdp.callbacks.apart.own_program import own_program
from tfdp.callbacks.apart.own_weights import OwnWeights
from tfdp.callbacks.chief_only import ChiefOnly, on_chief_only
from tfdp.optimizer import DistributedOptimizer
from tfdp.strategy import AsynchronousStrategy, NumberedDataset
from tfdp.synchronization import Asynchronous
from tfdp.upstream.keras import (
    inspection,
    keras_data,
    keras_fit,
    keras_optimizers,
)


class Apart:
    """Joins a fit, and brings workers together at the end of each epoch.

    Args:
        model: The model that is fitted.
        params: Parameters of the fit.
        callbacks: All callbacks of the fit.
        optimizers: Those of the model that are tfdp's.

    Raises:
        RuntimeError: If the server cannot train what the model trains.
        ValueError: If this worker trains otherwise than the chief.
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
        self._sums = list(
            {
                id(variable): variable
                for metric in inspection.metrics(model)
                for variable in metric.variables
            }.values()
        )
        self._logs: dict[str, Any] = {}
        _check_alone(callbacks)
        self._data = _numbered()
        self._exchange = self._strategy.connect()
        self._lock, self._is_over = threading.Lock(), False
        if self._strategy.under_way is not None:
            self._strategy.under_way.abandon()
        self._epoch, self._settled = 0, -1
        self._steps = 0
        self._rate: float | None = None
        self._handover = Handover(model, self._strategy, callbacks)
        self._handed: Mapping[str, Any] = {}
        self._own = OwnWeights(
            self._way,
            self._exchange,
            callbacks,
            is_chief=self._strategy.is_chief,
        )
        # What is swapped in is among the server's slots.
        self._swaps = any(
            isinstance(each, keras.callbacks.SwapEMAWeights)
            for each in callbacks
        )

    def begin(self) -> None:
        """Joins the fit where the others are; the chief says what it is of."""
        exchange, feed = self._exchange, self._strategy.feed
        where = exchange.join(
            dataclasses.replace(
                self._way.describe(self._statistics, self._sums),
                program=own_program(self._model, self._params, self._data),
            ),
            self._way.values(),
            # A backup may be loaded before.
            opens=False,
        )
        if self._strategy.is_chief:
            # What is here may have been set or loaded since the last one.
            names = list(exchange.save())
            exchange.load(self._way.state_of(names))
            self._own.begin(names)
            self._rate = _rate_of(self._way.served_optimizer)
        elif not where["is_over"]:
            self._handed = self._handover.restore_model(exchange.handed())
            self._set_rate(self._handed["learning_rate"])
            # Of which the order of the data is counted.
            feed.first_epoch = self._handed["first_epoch"]
        self._is_late = where["is_over"]
        steps = self._optimizer.accumulation_steps * self._way.sync_every
        feed.begin(exchange, looks_ahead=steps > 1)
        self._way.begin(exchange, feed)
        self._strategy.under_way = self
        self._watch = FitWatch(self.abandon)
        keras_fit.guard_callbacks(self._guarded, depth=2)
        if where["is_over"]:
            keras_fit.begin_at_epoch(self._model, self._params["epochs"])
        elif where["epoch"] is not None:
            keras_fit.begin_at_epoch(self._model, where["epoch"])

    def send(self) -> None:
        """Gives all what the chief's callbacks have set; before a backup."""
        self._own.send()

    def open(self) -> None:
        """Lets all begin, once the callbacks of this worker have begun."""
        if self._strategy.is_chief:
            self._hand_over(None)
            epoch = keras_fit.begins_at_epoch(self._model)
            self._exchange.open(epoch or self._strategy.feed.first_epoch)
        elif not self._is_late:
            self._handover.restore_callbacks()

    def begin_epoch(self, epoch: int) -> None:
        """Begins an epoch, once all callbacks have seen it begin.

        Args:
            epoch: Its index.
        """
        keras_fit.begin_at_epoch(self._model, None)
        self._epoch, self._steps = epoch, 0
        if self._strategy.is_chief:
            # Before others may make updates of it.
            self._tell_rate()
            self._hand_over(epoch)
        elif self._handed.get("epoch") == epoch:
            # Callbacks of this worker have begun the epoch once more.
            self._set_rate(self._handed["learning_rate"])
        self._own.begin_epoch()
        self._strategy.feed.begin_epoch(epoch)

    def begin_step(self) -> None:
        """Tells the server of another learning rate, on the chief."""
        self._own.begin_step()
        if self._strategy.is_chief:
            self._tell_rate()

    def end_step(self, *, stops: bool) -> None:
        """Counts a step; not all that begin find data.

        Args:
            stops: Whether all are to end the fit, after what they compute now.
        """
        self._steps += 1
        if stops:
            self._exchange.stop()

    def naming(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a function of steps whose errors are those of the exchange.

        Args:
            function: What Keras calls for a step.
        """

        @functools.wraps(function)
        def naming(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except (StopIteration, tf.errors.OutOfRangeError):
                raise
            except BaseException as error:
                failure = self._exchange.failure or self._strategy.feed.failure
                self.abandon()
                if failure is None or not isinstance(error, tf.errors.OpError):
                    raise
                # TensorFlow has made another of an error of Python's.
                raise failure from error

        return naming

    def settle(self) -> None:
        """Takes the weights that all have made, and brings statistics together.

        Metrics are of what all have seen from then on.
        """
        if self._settled == self._epoch:
            return
        self._settled = self._epoch
        exchange = self._exchange
        left = self._strategy.feed.drain()
        if left:
            warnings.warn(
                "What a lost worker has not trained on, the others do in the "
                f"same epoch. Received: batches {', '.join(map(str, left))} of "
                f"epoch {self._epoch} once this worker was through with its "
                "own, of data whose length is not known, with accumulation; "
                "nobody has trained on them. Give `fit` data of known length.",
                stacklevel=2,
            )
        exchange.release()
        weights = exchange.read()
        if weights is not None:
            self._own.settle(weights)
            self._way.take_over(weights)
        if self._swaps:
            # All updates of the epoch are made.
            self._way.load_state(self._way.served())
        variables = [*self._statistics, *self._sums]
        together = exchange.average(
            self._epoch,
            [np.asarray(v.numpy()) for v in variables],
            samples=self._steps,
        )
        with self._strategy.scope():
            for variable, value in zip(variables, together, strict=True):
                variable.assign(value)
            self._logs = _metrics_of(self._model)

    def change(self, logs: dict[str, Any]) -> None:
        """Has logs of the epoch say what all workers have seen.

        Args:
            logs: What Keras tells callbacks; changed in place.
        """
        # Who had no batch of the epoch has no logs of its own.
        names = self._logs.keys() & logs.keys() if self._steps else self._logs
        logs.update({name: self._logs[name] for name in names})

    def end(self) -> None:
        """Ends what reads data."""
        with self._lock:
            self._is_over = True
        self._strategy.under_way = None
        self._watch.close()
        self._strategy.feed.close()
        self._data.close()

    def abandon(self) -> None:
        """Leaves a fit that an error or an interrupt has ended.

        The others go on, or end where this is the chief. The next fit is
        another one, from the weights and slots of the chief.
        """
        with self._lock:
            if self._is_over:
                return
            self._is_over = True
            # Who waits for a batch would be waited for.
            self._strategy.feed.close()
            with contextlib.suppress(ServerLost):
                self._exchange.abandon()
                self.gather()
            self._data.close()
            self._strategy.under_way = None

    def _guarded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except BaseException:
                self.abandon()
                raise

        return guarded

    def gather(self) -> None:
        """Takes the server's slots and counts, for whoever saves the model."""
        if self._strategy.is_chief:
            self._own.send()
            self._way.load_state(self._way.served())

    def stops(self, *, own: bool) -> bool:
        """Returns whether a worker wants to end the fit after this epoch.

        Args:
            own: Whether this one does.
        """
        stops = self._exchange.vote(self._epoch, stops=own)
        if stops or self._epoch + 1 >= self._params["epochs"]:
            # Of which it is the last edge.
            self._own.send()
        return stops

    def _hand_over(self, epoch: int | None) -> None:
        if self._strategy.size > 1:
            rate = _rate_of(self._way.inner_optimizer)
            self._exchange.hand_over(
                self._handover.captured(
                    epoch=epoch,
                    first_epoch=self._strategy.feed.first_epoch,
                    learning_rate=rate,
                )
            )

    def _tell_rate(self) -> None:
        rate = _rate_of(self._way.served_optimizer)
        if rate is not None and rate != self._rate:
            self._exchange.set_learning_rate(rate)
            self._rate = rate

    def _set_rate(self, rate: float | None) -> None:
        if rate is not None:
            self._way.inner_optimizer.learning_rate = rate


def _rate_of(optimizer: keras.optimizers.Optimizer) -> float | None:
    """The learning rate, where it is a number and no schedule."""
    if keras_optimizers.is_multi_optimizer(optimizer):
        return None
    rate = keras_optimizers.given_rate(optimizer)
    return rate if isinstance(rate, float) else None


def on_chief_only_apart(
    callbacks: list[keras.callbacks.Callback],
) -> list[keras.callbacks.Callback]:
    """Returns callbacks of a `fit` whose workers do not meet in callbacks.

    Args:
        callbacks: Those of the `fit`.

    Raises:
        RuntimeError: If Keras's `BackupAndRestore` is among them.
    """
    return [
        ChiefOnly(c) if getattr(c, "is_of_chief_apart", False) else c
        for c in on_chief_only(callbacks)
    ]


def _metrics_of(model: keras.Model) -> dict[str, float]:
    """Returns what a model's metrics are now; nothing if they have no value."""
    try:
        results = model.get_metrics_result()
        return {name: float(result) for name, result in results.items()}
    except Exception:  # Of a step of the user's own, which uses others.
        return {}


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


def _numbered() -> NumberedDataset:
    fit = keras_fit.fit_under_way()
    data = None if fit is None else keras_data.distributed_dataset(fit)
    if not isinstance(data, NumberedDataset):
        raise RuntimeError(
            "In an AsynchronousStrategy `fit` is given data of which workers "
            "take batches by their numbers. Received: a distributed dataset. "
            "Give it arrays, a `tf.data.Dataset` or a `keras.utils.PyDataset`."
        )
    return data


def _check_alone(callbacks: Sequence[keras.callbacks.Callback]) -> None:
    for callback in callbacks:
        is_apart = getattr(callback, "works_apart", False)
        if getattr(callback, "is_collective", False) and not is_apart:
            raise RuntimeError(
                "Workers that train asynchronously do not meet in callbacks. "
                f"Received: {type(callback).__name__}, which is collective. "
                "Leave it out, or use a synchronous strategy."
            )
