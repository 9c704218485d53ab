"""The optimizer that a user compiles with: settings, state, and its saving."""

import contextvars
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import keras
import tensorflow as tf

from tfdp.checks import checked_count
from tfdp.optimizer.loss_scale import LossScale, resolved_loss_scale, scaling_of
from tfdp.optimizer.measured import Measured
from tfdp.optimizer.measurement import Measurement
from tfdp.optimizer.update import Update
from tfdp.step import Gradient
from tfdp.strategy import check_scope, counts_samples, filling_alone
from tfdp.synchronization import (
    Synchronization,
    check_devices,
    checked_synchronization,
    way_in,
)
from tfdp.upstream.keras import keras_optimizers as doorway

# A model that cannot train here can still be loaded, to predict.
_is_loading = contextvars.ContextVar("_is_loading", default=False)


@keras.saving.register_keras_serializable(package="tfdp")
class DistributedOptimizer(Measured):
    """Updates the weights once per `accumulation_steps` micro-batches.

    Use it when the batch you want does not fit in memory, or when
    communication is what limits you: four micro-batches of 64 give the update
    of one batch of 256, up to rounding, for one all-reduce. Layers with batch
    statistics (`BatchNormalization`) still see 64 samples.

    Gradients are weighted by their samples and summed on the replica; once per
    update they are summed over replicas, divided by the samples of the whole
    cycle, clipped, and handed to a copy of `inner_optimizer`. Between updates
    nothing of it moves: not its momenta, weight decay, or iteration count. A
    learning rate schedule therefore counts updates, whereas with Keras's
    `gradient_accumulation_steps` it counts micro-batches.

    Use `callbacks.DataParallel()` with it, which updates with what a short
    last cycle of an epoch has gathered before anything looks at the weights.

    Args:
        inner_optimizer: A `keras.optimizers.Optimizer`. Its clipping, weight
            decay and moving average act on the reduced gradient.
        accumulation_steps: Micro-batches per update; an integer of at least
            1. Above 1 it needs a tfdp strategy. Defaults to 1.
        loss_scale: `"auto"` (dynamic when the global dtype policy computes in
            float16, otherwise none), `"dynamic"`, a positive number, or
            `None`. Defaults to `"auto"`.
        initial_scale: Loss scale to begin with where it is dynamic. Defaults
            to 32,768.
        dynamic_growth_steps: Updates without overflow after which a dynamic
            loss scale is doubled. Defaults to 2,000.
        compression: `"bfloat16"` or `"float16"`, to send gradients between
            replicas in 16 bits, which halves the bytes; or `None`. Everything
            else, sums over micro-batches included, stays in float32. Each
            replica's part of the mean gradient is rounded, and so is every
            sum of two replicas' on the way: by 0.4 % at most in bfloat16,
            which has the range of float32; in float16 by 0.05 % where they
            are above 6e-5, by more below, and all of what is below 3e-8 is
            lost, while an update with a number above 65,504 is skipped.
            Defaults to `None`, which is exact.
        synchronization: How replicas come to have the same weights:
            `tfdp.Synchronous()`, `tfdp.ShardedState()`, `tfdp.LocalSGD(...)`,
            `tfdp.DiLoCo(...)` or `tfdp.Delayed()`; see
            docs/ideas/synchronization.md. Defaults to `None`, which is the
            first.
        name: Optional name of the optimizer.

    Attributes:
        micro_step: Scalar int64; micro-batches since the last update.
        iterations: Scalar int64; updates made so far.
        skipped_updates: Scalar int64; updates skipped for overflow.

    Raises:
        TypeError: If `inner_optimizer` is no optimizer, a number none, or
            `synchronization` no way to synchronise.
        ValueError: If a number is not positive, if
            `inner_optimizer` already accumulates, scales the loss or was
            already used, if `loss_scale` or `compression` is none of the
            above, or is bfloat16 on several GPUs of one process, or if
            `synchronization` cannot go with the rest.
        RuntimeError: If `accumulation_steps` is above 1, or `inner_optimizer`
            an `AdaScale`, outside of the scope of a tfdp strategy; or if an
            `AdaScale` has but one gradient per update to look at.

    Example:

    >>> with tfdp.auto_strategy().scope():
    ...     optimizer = tfdp.DistributedOptimizer(
    ...         keras.optimizers.Adam(1e-3), accumulation_steps=4
    ...     )
    >>> optimizer.accumulation_steps
    4
    """

    weighs_samples = True

    def __init__(
        self,
        inner_optimizer: keras.optimizers.Optimizer,
        accumulation_steps: int = 1,
        *,
        loss_scale: Literal["auto", "dynamic"] | float | None = "auto",
        initial_scale: float = 2.0**15,
        dynamic_growth_steps: int = 2000,
        compression: Literal["bfloat16", "float16"] | None = None,
        synchronization: Synchronization | None = None,
        name: str | None = None,
    ) -> None:
        accumulation_steps = checked_count(
            "accumulation_steps", accumulation_steps
        )
        loss_scale = resolved_loss_scale(loss_scale)
        synchronization = checked_synchronization(synchronization)
        strategy = tf.distribute.get_strategy()
        own = way_in(strategy, synchronization).of(
            inner_optimizer,
            compression,
            loss_scale=loss_scale,
            accumulation_steps=accumulation_steps
            if accumulation_steps > 1
            else None,
        )
        super().__init__(
            own.inner_optimizer,
            **scaling_of(loss_scale, initial_scale, dynamic_growth_steps),
            name=name or "distributed_optimizer",
        )
        self.accumulation_steps = accumulation_steps
        self.loss_scale = loss_scale
        self.synchronization = synchronization
        self.strategy = strategy
        self.synchronized_by = own
        self._edges_are_kept = False
        self.measurement = Measurement(
            self.strategy,
            accumulation_steps,
            feeds_update=own.wants_moments,
        )
        self._update = Update(own, self.measurement, loss_scale)
        if not _is_loading.get():
            is_counted = counts_samples(self.strategy)
            self.measurement.check_counted(is_counted=is_counted)
            own.check_strategy(self.strategy, is_counted=is_counted)
            check_devices(compression, self.strategy)

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Creates the state of the optimizer for the variables it trains.

        Args:
            variables: The model's trainable variables, in the order in which
                they will be given to `apply`.

        Raises:
            RuntimeError: If called in the scope of another strategy than the
                one that the optimizer was created in, or if workers build it
                for other variables.
        """
        check_scope(self.strategy)
        with filling_alone(self.strategy, self.inner_optimizer, variables):
            self.synchronized_by.build(variables, self)
            keras.optimizers.Optimizer.build(self, variables)
            self.micro_step = self._added("micro_step")
            self.skipped_updates = self._added("skipped_updates")
            self.step_counter = self._added("step_counter")
            noise = self._added("noise", (4,), "float32")
        self.measurement.build(noise)
        start = keras.initializers.Constant(self.initial_scale)
        self.dynamic_scale = self._added("dynamic_scale", (), "float32", start)
        scaling = LossScale(
            self.dynamic_scale,
            self.step_counter,
            self.skipped_updates,
            growth_interval=self.dynamic_growth_steps,
            is_dynamic=self.loss_scale == "dynamic",
        )
        self._cycle = self._update.build(
            self.strategy,
            variables,
            accumulation_steps=self.accumulation_steps,
            micro_step=self.micro_step,
            scaling=scaling,
        )
        self._accumulated = self._cycle.variables

    @tf.autograph.experimental.do_not_convert
    def scale_loss(self, loss: tf.Tensor) -> tf.Tensor:
        """Scales the loss where loss scaling is on.

        Where gradients of one replica's loss reach others, as they do through
        a synchronized `BatchNormalization`, it weighs the loss as well.

        Args:
            loss: Scalar loss of this replica.

        Returns:
            The loss to differentiate.
        """
        return self._update.scaled(loss, self.initial_scale)

    @tf.autograph.experimental.do_not_convert
    def apply(
        self,
        grads: Sequence[Gradient | None],
        trainable_variables: Sequence[keras.Variable] | None = None,
    ) -> None:
        """Takes the gradients of one micro-batch, and updates when it is time.

        Called on every replica: by `fit`, or by a step given to
        `strategy.run`.

        Args:
            grads: Gradients of this replica's loss (its mean over its own
                samples, divided by the number of replicas, as Keras's losses
                are).
            trainable_variables: The variables, in the same order. Defaults to
                those that the optimizer was built with.

        Raises:
            RuntimeError: If called in cross-replica context, in the scope of
                another strategy, or, when accumulating, not from inside
                `strategy.run` of a tfdp strategy.
            ValueError: If the optimizer was not built for a variable; if, when
                accumulating, micro-batches give gradients for different
                variables, or the loss is one of a whole micro-batch; or if
                losses of one step are averaged over different things.
        """
        if tf.distribute.in_cross_replica_context():
            raise RuntimeError(
                "`apply` must be called on every replica. Received: a call "
                "in cross-replica context. Call it from a function given to "
                "`strategy.run`."
            )
        check_scope(self.strategy)
        variables = list(trainable_variables or doorway.trained_variables(self))
        if not self.built:
            self.build(variables)
        grads, variables = doorway.with_gradients(self, grads, variables)
        places = [doorway.place_of(self, each) for each in variables]
        self._update.take(grads, variables, places)

    @property
    def compression(self) -> str | None:
        """The number format of gradients between replicas, if not their own."""
        return self.synchronized_by.compression

    @property
    def is_mid_cycle(self) -> bool:
        """Whether what was seen is not yet in the weights of all replicas.

        Micro-batches of no update yet, or updates that replicas made alone.
        """
        return self.built and (
            self._cycle.is_under_way or self.synchronized_by.is_under_way
        )

    @property
    def variables(self) -> list[keras.Variable]:
        """State of the optimizer, of the inner one, and of what is between."""
        own = self.__dict__.get("synchronized_by")
        return super().variables + (own.variables if own and self.built else [])

    def flush(self) -> None:
        """Updates with what an unfinished cycle has gathered, if anything.

        The mean is over the samples that were seen, so that a short last
        cycle weighs as it should. Called outside of any step, by all workers.
        """
        if self.built:
            self._cycle.flush(self.measurement.smoothing)
            if not self.synchronized_by.is_complete:
                self.synchronized_by.complete(self.strategy)

    def finalize_variable_values(
        self, var_list: Sequence[keras.Variable]
    ) -> None:
        """Ends training: flushes, and lets the inner optimizer finish.

        Args:
            var_list: The model's trainable variables.
        """
        is_open = (
            self.accumulation_steps > 1 or not self.synchronized_by.keeps_up
        )
        if is_open and not self._edges_are_kept:
            warnings.warn(
                "What an epoch leaves unfinished runs on into the next, and "
                "validation does not see it. Received: accumulation_steps="
                f"{self.accumulation_steps}, synchronization="
                f"{type(self.synchronization).__name__} without "
                "`callbacks.DataParallel`. Give `fit` "
                "`callbacks=[tfdp.callbacks.DataParallel(), ...]`.",
                stacklevel=2,
            )
            self._edges_are_kept = True
        self.flush()
        self.synchronized_by.finalize(var_list)

    def keep_edges(self) -> None:
        """Says that a callback flushes at the end of each epoch."""
        self._edges_are_kept = True

    def save_own_variables(self, store: Any) -> None:
        """Saves the state, a cycle under way included.

        In the middle of a cycle it is a collective: all workers must save.

        Args:
            store: Mapping to save to, by name.

        Raises:
            RuntimeError: If replicas have updated alone since they last met.
        """
        if self.built:
            self.synchronized_by.check_complete()
        super().save_own_variables(store)
        if self.built:
            self._cycle.save(store)

    def load_own_variables(self, store: Any) -> None:
        """Loads the state; a cycle under way goes on where it was.

        Args:
            store: Mapping to load from, by name.

        Raises:
            ValueError: If the state was saved in the middle of a cycle, and
                this optimizer does not accumulate.
        """
        state = self._cycle.load(store) if self.built else store
        super().load_own_variables(state)

    def get_config(self) -> dict[str, Any]:
        """Returns the configuration, for saving.

        Returns:
            Arguments of the constructor, the inner optimizer serialised.
        """
        return {
            "inner_optimizer": keras.saving.serialize_keras_object(
                self.inner_optimizer
            ),
            "accumulation_steps": self.accumulation_steps,
            "loss_scale": self.loss_scale,
            "initial_scale": self.initial_scale,
            "dynamic_growth_steps": self.dynamic_growth_steps,
            "compression": self.compression,
            "synchronization": keras.saving.serialize_keras_object(
                self.synchronization
            ),
            "name": self.name,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Any = None
    ) -> "DistributedOptimizer":
        """Creates an optimizer from its configuration.

        Args:
            config: What `get_config` returned.
            custom_objects: Classes by name, for the inner optimizer.

        Returns:
            The optimizer. One that needs the scope of a tfdp strategy to
            train may be created anywhere, so that a model can be loaded to
            predict.
        """
        config = dict(config)
        inner = keras.saving.deserialize_keras_object(
            config.pop("inner_optimizer"), custom_objects=custom_objects
        )
        token = _is_loading.set(True)
        try:
            return cls(inner, **config)
        finally:
            _is_loading.reset(token)

    def _added(
        self,
        name: str,
        shape: tuple[int, ...] = (),
        dtype: str = "int64",
        initializer: Any = "zeros",
    ) -> keras.Variable:
        return self.add_variable(
            shape,
            initializer=initializer,
            dtype=dtype,
            aggregation="only_first_replica",
            name=name,
        )
