"""What a worker says of the state that the server holds, as methods."""

from collections.abc import Callable, Mapping

import numpy as np

from tfdp.asynchronous.serving.handed_over import changed_since
from tfdp.asynchronous.wire.message import Message


class StateExchange:
    """The part of an `Exchange` that is about state: weights, slots, a rate.

    Attributes:
        ask: Asks the server, as `Session.ask`.
        digests: Of what was handed over in this `fit`.
    """

    ask: Callable[..., Message]
    digests: dict[str, int]

    def hand_over(self, state: Mapping[str, np.ndarray]) -> None:
        """Has all that join this `fit` from now on be handed a state.

        For the chief. The server does not look at it, and what has not changed
        since the last call is not sent again.

        Args:
            state: Arrays by name, instead of those of before.
        """
        changed, self.digests = changed_since(self.digests, state)
        arrays = [state[name] for name in changed]
        self.ask("expect", bytes=sum(array.nbytes for array in arrays))
        self.ask("hand_over", arrays=arrays, names=changed, all=list(state))

    def handed(self) -> dict[str, np.ndarray]:
        """Returns what the chief has handed over."""
        answer = self.ask("handed")
        return dict(zip(answer.fields["names"], answer.arrays, strict=True))

    def set_learning_rate(self, rate: float) -> None:
        """Sets the rate of all updates from now on; for the chief.

        Args:
            rate: The learning rate.

        Raises:
            ValueError: If the optimizer has a schedule, or this is not the
                chief.
        """
        self.ask("set_learning_rate", rate=float(rate))

    def save(self) -> dict[str, np.ndarray]:
        """Returns all that a training is made of, of one version, by name.

        `weights/...` are in the order of the variables, `optimizer/...` in
        that of `optimizer.variables`, and `queue/...` says which batches are
        done.
        """
        answer = self.ask("save")
        return dict(zip(answer.fields["names"], answer.arrays, strict=True))

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Goes on from a state, or a part of it; for the chief, at the start.

        Args:
            state: What `save` has returned.

        Raises:
            ValueError: If it is of another model, or this is not the chief.
            RuntimeError: If a gradient is under way.
        """
        self.ask("load", arrays=list(state.values()), names=list(state))
