"""State of an optimizer that replicas have shared out between them."""

from typing import Any

import numpy as np
import tensorflow as tf

from tfdp.optimizer.before_build import BeforeBuild
from tfdp.synchronization import Synchronization


class SharedOut(BeforeBuild):
    """An optimizer that says which replica holds which of its state."""

    strategy: tf.distribute.Strategy
    synchronized_by: Synchronization

    @property
    def owned_variables(self) -> list[Any]:
        """Those of `variables` that one replica has for all."""
        return self.synchronized_by.owned_variables if self.built else []

    def gather_state(self) -> list[np.ndarray]:
        """Gathers on the chief what replicas have shared out; a collective.

        With `tfdp.ShardedState()` on several workers, call it on all of them
        before the chief saves the model, outside of `fit` and its callbacks.

        Returns:
            Values of `owned_variables`, on the chief; on other workers none.
        """
        if not self.built:
            return []
        return self.synchronized_by.gather(self.strategy)

    def state_bytes(self) -> list[int]:
        """Returns how many bytes of slots, as momenta, each replica holds.

        Returns:
            One number for each replica of the strategy, zeros before the
            optimizer is built.
        """
        replicas = self.strategy.num_replicas_in_sync
        if not self.built:
            return [0] * replicas
        return self.synchronized_by.state_bytes(replicas)
