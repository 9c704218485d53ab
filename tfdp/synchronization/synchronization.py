"""What a way to synchronise is, to the optimizer that asks for one."""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import keras
import numpy as np
import tensorflow as tf

from tfdp.step import Gradient
from tfdp.strategy import uncounted
from tfdp.synchronization.compression import checked_compression
from tfdp.synchronization.fused import use_fused_update
from tfdp.synchronization.gradient_statistics import Moments
from tfdp.synchronization.inner_optimizer import (
    checked_copy,
    observes_moments,
    overwrite_when_due,
    single_optimizers,
)
from tfdp.upstream.keras import keras_optimizers


class Reduced(NamedTuple):
    """Gradients as they are to be applied.

    Attributes:
        gradients: The gradients, slices with each row once.
        moments: How those behind them scatter, if that was asked for.
        weight: Scalar float32; the weight behind gradients that are this
            replica's own, and not divided yet. `None` where they are the same
            on every replica.
    """

    gradients: list[Gradient]
    moments: Moments | None = None
    weight: tf.Tensor | None = None


class Synchronization:
    """How replicas come to have the same weights.

    What a user makes says how, and holds no state: a `DistributedOptimizer`
    takes a copy of it, as it does of the inner optimizer, so that one serves
    several.

    The copy has the optimizer that updates as `inner_optimizer`. A subclass
    makes `apply`, mostly `reduce`, and says in `refuses` what it cannot go
    with. It is saved with the optimizer: `get_config` returns the arguments of
    its constructor.

    Attributes:
        refuses: For each thing it cannot go with, why, and the way out.
        compression: Number format of gradients between replicas.
        weighs: Whether it needs to know the samples of each replica.
        keeps_up: Whether weights hold all gradients after each update.
    """

    refuses: Mapping[str, str] = {}
    compression: str | None = None
    weighs = False
    keeps_up = True
    inner_optimizer: keras.optimizers.Optimizer

    def of(
        self,
        inner_optimizer: keras.optimizers.Optimizer,
        compression: str | None = None,
        **settings: Any,
    ) -> Self:
        """Returns a copy that updates by an optimizer.

        Args:
            inner_optimizer: The user's optimizer, not built yet. It is copied,
                and stays what it was.
            compression: `"bfloat16"`, `"float16"` or `None`; the number format
                of gradients between replicas. Defaults to `None`, their own.
            settings: What else the optimizer was told, by the names of its
                arguments; those at rest as `None`.

        Raises:
            TypeError: If `inner_optimizer` is no optimizer.
            ValueError: If it accumulates or scales the loss itself, or was
                used; if `compression` is none of the above; or if this way
                cannot go with one of them.
        """
        own = copy.copy(self)
        own.compression = checked_compression(compression)
        own.inner_optimizer = checked_copy(inner_optimizer)
        several = keras_optimizers.is_multi_optimizer(inner_optimizer)
        overwriting = [each.ema_overwrite_frequency for each in own.optimizers]
        settings |= {
            "compression": compression,
            "adascale": own.wants_moments or None,
            "multi_optimizer": several or None,
            "ema_overwrite_frequency": next(filter(None, overwriting), None),
        }
        for name, value in settings.items():
            if value is not None:
                own.refuse(name, f"{name}={value!r}")
        return own

    def refuse(self, name: str, received: str) -> None:
        """Refuses what this way cannot go with, if it cannot.

        Args:
            name: What it is, by its name in `refuses`.
            received: What there is of it, for the message.

        Raises:
            ValueError: If it cannot.
        """
        if name in self.refuses:
            raise ValueError(
                f"{type(self).__name__} cannot go with {self.refuses[name]} "
                f"Received: {received}."
            )

    def met(self, tensors: Sequence[Gradient]) -> None:
        """Says that replicas have met later than in `reduce`, in a step.

        Whoever measures when puts something else in its place.

        Args:
            tensors: What this replica has got from all.
        """

    def build(
        self,
        variables: Sequence[keras.Variable],
        owner: keras.optimizers.Optimizer,
    ) -> None:
        """Creates what is needed to update some variables.

        Args:
            variables: What is to be updated.
            owner: The optimizer that saves what is made by its `add_variable`.
        """
        self.inner_optimizer.build(variables)
        for each in self.optimizers:
            use_fused_update(each)

    def check_strategy(
        self, strategy: tf.distribute.Strategy, *, is_counted: bool
    ) -> None:
        """Checks that this way can train in a strategy.

        Args:
            strategy: The strategy that the optimizer was created in.
            is_counted: Whether the strategy counts samples.

        Raises:
            RuntimeError: If it needs to know the samples of each replica.
        """
        if self.weighs and not is_counted:
            name = type(self).__name__
            raise uncounted(strategy, f"synchronization={name}")

    def expect(self, variables: Sequence[keras.Variable]) -> None:
        """Hears whose gradients are reduced next, while a step is traced.

        Args:
            variables: The variables, in the order of the gradients.
        """

    def reduce(
        self,
        gradients: Sequence[Gradient],
        weight: tf.Tensor | None,
        scatter: tf.Tensor | None = None,
        scale: tf.Tensor | None = None,
    ) -> Reduced:
        """Brings together what replicas have gathered, in replica context.

        Called once per update.

        Args:
            gradients: Gradients of this replica, weighted.
            weight: Scalar float32; the weight behind them, or `None` where
                gradients are to be added up.
            scatter: How the gradients scatter, if their moments are wanted;
                see `gradient_statistics.scatter`.
            scale: Scalar float32; how much too large the gradients are, and
                stay. They are sent without it where they are compressed.

        Returns:
            The gradients, with their moments if wanted; by default this
            replica's own, and their weight.

        Raises:
            RuntimeError: If the weight is needed, and not known.
        """
        if weight is None:
            name = type(self).__name__
            strategy = tf.distribute.get_strategy()
            raise uncounted(strategy, f"synchronization={name}")
        return Reduced(list(gradients), weight=weight)

    def apply(
        self, reduced: Reduced, variables: Sequence[keras.Variable]
    ) -> None:
        """Makes the update, in replica context.

        Args:
            reduced: What `reduce` has returned.
            variables: The variables, in the order of the gradients.
        """
        raise NotImplementedError

    def skip(self) -> None:
        """Hears, in cross-replica context, of an update that is not made."""

    @property
    def variables(self) -> list[keras.Variable]:
        """State beyond that of the owner and of the inner optimizer."""
        return []

    @property
    def replica_variables(self) -> list[keras.Variable]:
        """State of which each replica has its own."""
        return []

    @property
    def owned_variables(self) -> list[Any]:
        """State that one replica has for all, by names of plain Keras."""
        return []

    @property
    def served_variables(self) -> list[keras.Variable]:
        """State that a server has for all workers, and which is behind here."""
        return []

    def served(self) -> dict[str, np.ndarray]:
        """Returns what a server has, of one version, by its names."""
        return {}

    def serve(self, state: Mapping[str, np.ndarray]) -> None:
        """Has a server go on from a state.

        Args:
            state: What `served` has returned, or a part of it.
        """

    def gather(self, strategy: tf.distribute.Strategy) -> list[np.ndarray]:
        """Returns the values of `owned_variables`; a collective.

        Args:
            strategy: The strategy of the replicas. All workers call it.

        Returns:
            The values, on the chief; elsewhere none.
        """
        return []

    def state_bytes(self, replicas: int) -> list[int]:
        """Returns how many bytes of slots each replica holds.

        Args:
            replicas: The number of replicas.
        """
        held = sum(
            math.prod(v.shape) * tf.as_dtype(v.dtype).size
            for each in self.optimizers
            for v in each.variables
            if v is not each.iterations and v is not each.learning_rate
        )
        return [held] * replicas

    @property
    def replica_sums(self) -> list[tf.Variable]:
        """Sums over replicas of which each has its part."""
        return []

    @property
    def is_under_way(self) -> bool:
        """Whether replicas have other weights than each other."""
        return False

    @property
    def is_complete(self) -> bool:
        """Whether all gradients are in the weights of all replicas."""
        return True

    def check_complete(self) -> None:
        """Checks that a model which is saved now is that of all replicas.

        Raises:
            RuntimeError: If it would be one replica's, or lack a gradient.
        """
        if not self.is_complete:
            raise RuntimeError(
                "A model can be saved once all that its replicas have seen is "
                f"in its weights. Received: {type(self).__name__} between two "
                "of these times. Save at the end of an epoch, or after "
                "`optimizer.flush()`."
            )

    def complete(self, strategy: tf.distribute.Strategy) -> None:
        """Brings together what is under way, outside of any step.

        Args:
            strategy: The strategy of the replicas. All workers call it.
        """

    @property
    def wants_moments(self) -> bool:
        """Whether the update depends on the moments of its gradients."""
        return observes_moments(self.inner_optimizer)

    @property
    def overwrites(self) -> bool:
        """Whether weights are overwritten by averages during training."""
        return any(each.ema_overwrite_frequency for each in self.optimizers)

    def overwrite(self) -> None:
        """Overwrites weights by their averages, when it is time.

        Called in cross-replica context, after each update.
        """
        for optimizer in self.optimizers:
            overwrite_when_due(optimizer)

    def finalize(self, variables: Sequence[keras.Variable]) -> None:
        """Gives the variables their final values at the end of training.

        Args:
            variables: The variables.
        """
        self.inner_optimizer.finalize_variable_values(variables)
        for optimizer in self.optimizers:
            if optimizer.use_ema:
                keras_optimizers.overwrite_with_average(optimizer)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor, for saving."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Creates one from its configuration.

        Args:
            config: What `get_config` has returned.

        Returns:
            The way to synchronise.
        """
        return cls(**config)

    @property
    def optimizers(self) -> list[keras.optimizers.Optimizer]:
        """Those that the inner optimizer consists of, or it alone."""
        return single_optimizers(self.inner_optimizer)
