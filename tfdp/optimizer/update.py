"""The order of an update; each step of it is delegated."""

from collections.abc import Sequence
from typing import Literal

import keras
import tensorflow as tf

from tfdp.optimizer.cycle import Cycle
from tfdp.optimizer.loss_scale import LossScale
from tfdp.optimizer.measurement import Measurement
from tfdp.step import (
    Gradient,
    LossWeight,
    StepMeter,
    call_for_each_replica,
    evening_factor,
    local_samples,
    taken_weight,
    updating,
    weighted,
)
from tfdp.synchronization import Reduced, Synchronization


class Update:
    """Takes the gradients of micro-batches, and updates when it is time.

    Weigh by samples, accumulate; then reduce, unscale, judge, and apply (where
    clipping, decay and the inner optimizer's own update happen) or skip.

    Args:
        synchronization: Reduces and applies gradients.
        measurement: What is measured meanwhile.
        loss_scale: `"dynamic"`, a number, or `None` where the loss is not
            scaled.
    """

    def __init__(
        self,
        synchronization: Synchronization,
        measurement: Measurement,
        loss_scale: Literal["dynamic"] | float | None,
    ) -> None:
        self._synchronization = synchronization
        self._measurement = measurement
        self._loss_scale = loss_scale
        self._scaling: LossScale | None = None

    def build(
        self,
        strategy: tf.distribute.Strategy,
        variables: Sequence[keras.Variable],
        *,
        accumulation_steps: int,
        micro_step: keras.Variable,
        scaling: LossScale,
    ) -> Cycle:
        """Gets ready to update some variables.

        Args:
            strategy: The strategy that the optimizer was created in.
            variables: What is to be updated.
            accumulation_steps: Micro-batches per update.
            micro_step: Variable, micro-batches since the last update.
            scaling: Scales the loss, and judges updates that may overflow.

        Returns:
            The cycle of micro-batches.
        """
        self._steps = accumulation_steps
        self._variables = list(variables)
        may_overflow = (
            self._synchronization.compression == "float16"
            and strategy.num_replicas_in_sync > 1
        )
        if self._loss_scale or may_overflow:
            self._scaling = scaling
        self._synchronization.met = self._stamp  # type: ignore[method-assign]
        self._cycle = Cycle(
            accumulation_steps,
            strategy,
            micro_step,
            variables,
            self._end_cycle,
        )
        return self._cycle

    def scaled(self, loss: tf.Tensor, initial_scale: float) -> tf.Tensor:
        """Returns a replica's loss as it is to be differentiated.

        Args:
            loss: Scalar loss of this replica.
            initial_scale: The scale, where nothing was built yet.
        """
        factor = evening_factor()
        if factor is not None:
            self._synchronization.refuse(
                "mixed_gradients", "a synchronized layer, or `tfdp.gather`"
            )
            loss *= tf.cast(factor, loss.dtype)
        if not self._loss_scale:
            return loss
        if self._scaling is None:
            return loss * tf.cast(initial_scale, loss.dtype)
        return self._scaling.scaled(loss)

    def take(
        self,
        gradients: Sequence[Gradient],
        variables: Sequence[keras.Variable],
        places: Sequence[int],
    ) -> None:
        """Takes the gradients of one micro-batch, in replica context.

        Args:
            gradients: Gradients of this replica's loss.
            variables: The variables, in the same order.
            places: The place of each among those built for.
        """
        self._synchronization.expect(variables)
        with updating(gradients):
            self._take(gradients, variables, places)

    def _take(
        self,
        gradients: Sequence[Gradient],
        variables: Sequence[keras.Variable],
        places: Sequence[int],
    ) -> None:
        weight = taken_weight()
        measurement = self._measurement
        measurement.check_counted(is_counted=weight is not None)
        if weight is None:
            self._end(self._reduced(gradients, None, None), variables)
            return
        self._check(weight)
        measurement.samples.add(local_samples())
        if measurement.meter:
            measurement.meter.end_micro_batch(
                gradients, is_last=self._steps == 1
            )
        # Keras divides each replica's mean loss by their number.
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        factor = weight.value * (1 if weight.adds else replicas)
        own, scattered = gradients, None
        if self._steps == 1 or measurement.wants_moments:
            own = [weighted(gradient, factor) for gradient in gradients]
        if measurement.wants_moments:
            scattered = measurement.scattered(own, weight)
        if self._steps > 1:
            self._cycle.add(gradients, places, weight, factor, scattered)
            return
        count = None if weight.adds else weight.value
        reduced = self._reduced(own, count, scattered, measurement.meter)
        self._end(reduced, variables)

    def _stamp(self, tensors: Sequence[Gradient]) -> None:
        if self._measurement.meter:
            self._measurement.meter.end_reduction(tensors)

    def _check(self, weight: LossWeight) -> None:
        refuse = self._synchronization.refuse
        if weight.adds:
            refuse("sums", "a loss with reduction='sum'")
        if weight.spans_micro_batch:
            refuse("batch_losses", "a `DistributedLoss`, or `tfdp.gather`")

    def _reduced(
        self,
        gradients: Sequence[Gradient],
        weight: tf.Tensor | None,
        scattered: tf.Tensor | None,
        meter: StepMeter | None = None,
    ) -> Reduced:
        scaling = self._scaling if self._loss_scale else None
        # A dynamic scale is what fits into half precision, also on the way.
        sent_without = None if self._loss_scale == "dynamic" else scaling
        reduced = self._synchronization.reduce(
            gradients,
            weight,
            scattered if self._measurement.wants_moments else None,
            sent_without.scale if sent_without else None,
        )
        if meter:
            meter.end_reduction(reduced.gradients)
        return scaling.unscaled(reduced) if scaling else reduced

    def _end(
        self, reduced: Reduced, variables: Sequence[keras.Variable]
    ) -> None:
        if self._scaling or self._synchronization.overwrites:
            tf.distribute.get_replica_context().merge_call(
                lambda strategy, r: self._judge(strategy, r, variables),
                args=(reduced,),
            )
        else:
            self._apply(reduced, variables)

    def _end_cycle(
        self, strategy: tf.distribute.Strategy, is_step: bool
    ) -> None:
        meter = self._measurement.meter if is_step else None
        variables = [self._variables[place] for place in self._cycle.places]
        self._synchronization.expect(variables)
        reduced = call_for_each_replica(
            strategy, lambda: self._reduced(*self._cycle.take(), meter)
        )
        self._judge(strategy, reduced, variables)
        self._cycle.begin()

    def _judge(
        self,
        strategy: tf.distribute.Strategy,
        reduced: Reduced,
        variables: Sequence[keras.Variable],
    ) -> None:
        def update() -> None:
            call_for_each_replica(
                strategy, lambda r: self._apply(r, variables), (reduced,)
            )
            self._synchronization.overwrite()

        if self._scaling:
            self._scaling.update_if_finite(
                strategy,
                reduced.gradients,
                update,
                self._synchronization.skip,
            )
        else:
            update()

    def _apply(
        self, reduced: Reduced, variables: Sequence[keras.Variable]
    ) -> None:
        self._measurement.add(reduced.moments)
        self._synchronization.apply(reduced, variables)
