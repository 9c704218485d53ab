"""Sums of gradients that wait on each replica for the end of a cycle."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from tfdp.step import Gradient, LossWeight, first_time_in_step
from tfdp.synchronization import add_weighted, replica_local


class Accumulator:
    """Adds up weighted gradients and their weights, without communication.

    Every replica holds sums of its own, in float32 for variables of fewer
    digits. Read from outside, TensorFlow adds the replicas up.

    Args:
        variables: The variables whose gradients are added up. Create the
            accumulator in the scope of the strategy that they live in.
    """

    def __init__(self, variables: Sequence[keras.Variable]) -> None:
        self._given: tuple[int, ...] | None = None
        self._adds = False
        self._sums = [
            replica_local(
                v.shape,
                tf.float64 if v.dtype == "float64" else tf.float32,
                beside=v,
            )
            for v in variables
        ]
        self._weight = replica_local((), tf.float32)
        self._scatter = replica_local((4,), tf.float32)

    @property
    def variables(self) -> list[tf.Variable]:
        """The sums, the weight behind them, and how they scatter."""
        return [*self._sums, self._weight, self._scatter]

    def add(
        self,
        gradients: Sequence[Gradient],
        places: Sequence[int],
        weight: LossWeight,
        factor: tf.Tensor,
        scatter: tf.Tensor | None = None,
    ) -> None:
        """Adds one micro-batch, in replica context.

        Args:
            gradients: Gradients of this replica.
            places: For each gradient, the place of its variable in
                `variables`.
            weight: The weight of these gradients.
            factor: Scalar, to multiply them with.
            scatter: What they add to the sums that moments are of, see
                `gradient_statistics.scatter`; `None` where none are wanted.

        Raises:
            ValueError: If other variables have gradients than in the
                micro-batches before, or if the loss is one of the whole
                micro-batch.
        """
        if weight.spans_micro_batch:
            raise ValueError(
                "A loss of the batch as a whole cannot be put together from "
                "micro-batches. Received: a `DistributedLoss` over the batch, "
                "or gradients through `tfdp.gather`, while gradients "
                "accumulate. Use accumulation_steps=1, or, if the loss is a "
                "mean over samples, DistributedLoss(loss, over='samples'). "
                "That is wrong for a loss that divides by a mask: let Keras "
                "divide, by `ignore_class`, or by the mask as sample weights "
                "and reduction='mean_with_sample_weight', in a "
                "DistributedLoss."
            )
        if not first_time_in_step(self):
            raise ValueError(
                "While gradients accumulate, `apply` may be called once per "
                "step. Received: a second call of one optimizer's in a step, "
                "whose gradients would be taken for those of the next "
                "micro-batch. Use an optimizer for each, or "
                "accumulation_steps=1 and a larger batch."
            )
        if self._given not in (None, tuple(places)):
            raise ValueError(
                "While gradients accumulate, every micro-batch must give "
                "gradients for the same variables. Received gradients for "
                f"variables {_listed(places)} of those that the optimizer "
                f"trains after gradients for {_listed(self._given)}. Use one "
                "DistributedOptimizer for each "
                "set of variables, and compile with a new one after changing "
                "what is trainable."
            )
        self._given = tuple(places)
        self._adds = weight.adds
        for gradient, place in zip(gradients, places, strict=True):
            add_weighted(self._sums[place], gradient, factor)
        self._weight.assign_add(weight.value)
        if scatter is not None:
            self._scatter.assign_add(scatter)

    @property
    def places(self) -> tuple[int, ...]:
        """Places of the variables that micro-batches give gradients for."""
        return self._given or tuple(range(len(self._sums)))

    @property
    def kind(self) -> tuple[tuple[int, ...], bool]:
        """What the graph of `take` depends on."""
        return self.places, self._adds

    def take(self) -> tuple[list[tf.Tensor], tf.Tensor | None, tf.Tensor]:
        """Returns this replica's sums and weight, and starts from zero.

        Returns:
            The sums, in the order of `places`; the weight behind them, or
            `None` where gradients are to be added up; and how they scatter.
        """
        held = [self._sums[place] for place in self.places]
        held += [self._weight, self._scatter]
        totals = [tf.identity(variable.read_value()) for variable in held]
        with tf.control_dependencies(totals):
            for variable in held:
                variable.assign(tf.zeros_like(variable))
        *sums, weight, scatter = totals
        return sums, None if self._adds else weight, scatter

    def state(self) -> dict[str, np.ndarray]:
        """Returns the sums over all replicas, by name; a collective."""
        return {
            **{f"accumulated_{i}": v.numpy() for i, v in self._numbered},
            "accumulated_places": np.array(self.places),
            "accumulated_adds": np.array(self._adds),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continues from what `state` returned, on any number of replicas.

        Args:
            state: Sums by name; empty for none.
        """
        if state:
            self._given = tuple(map(int, state["accumulated_places"]))
            self._adds = bool(state["accumulated_adds"])
        for i, variable in self._numbered:
            # TensorFlow gives each replica its part of the sum.
            variable.assign(
                state[f"accumulated_{i}"] if state else tf.zeros_like(variable)
            )

    @property
    def _numbered(self) -> list[tuple[int, tf.Variable]]:
        return list(enumerate(self.variables))


def _listed(places: Sequence[int]) -> str:
    return ", ".join(map(str, places))
