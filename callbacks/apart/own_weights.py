"""Weights that callbacks set, where the weights are a server's."""

from collections.abc import Sequence

import keras

from tfdp.asynchronous.exchange import Exchange
from tfdp.asynchronous.received import Weights
from tfdp.synchronization import Asynchronous

_HOOKS = (
    "on_train_batch_begin",
    "on_train_batch_end",
    "on_batch_begin",
    "on_batch_end",
)
# Exchanges of a fit that are looked at in any case.
_FIRST = 2


class OwnWeights:
    """Sends what the chief's callbacks have set, and refuses what is lost.

    At the edges of an epoch nobody computes a gradient, and what is set there
    is everybody's from then on. Elsewhere the next exchange would overwrite
    it.

    To compare all weights takes time, so that it is done for the first
    exchanges of a fit and at the end of each epoch; and in each step, where a
    callback that is not of Keras or tfdp has something to do in it.

    Args:
        way: Who exchanges.
        exchange: By what.
        callbacks: Those of the fit.
        is_chief: Whether this worker is the chief.
    """

    def __init__(
        self,
        way: Asynchronous,
        exchange: Exchange,
        callbacks: Sequence[keras.callbacks.Callback],
        *,
        is_chief: bool,
    ) -> None:
        self._way, self._exchange = way, exchange
        self._given, self._is_chief = way.given, is_chief
        self._acts = any(map(_acts_in_steps, callbacks))
        self._names: list[str] = []
        self._left = _FIRST
        self._seen: int | None = None
        self._given.version, self._given.keeps = None, way.holds_weights

    def begin(self, names: Sequence[str]) -> None:
        """Begins with what the chief has given the server.

        Args:
            names: The server's, of all that it has; of the weights first.
        """
        self._names = list(names)
        self._given.keep(self._way.values())

    def send(self) -> None:
        """Gives the server what the chief has set, where nobody has read."""
        if not self._is_chief:
            return
        own = self._way.values()
        places = self._given.differing(own)
        if places:
            self._exchange.load({self._names[i]: own[i] for i in places})
            self._given.keep(own)

    def begin_epoch(self) -> None:
        """Notes what steps begin with; on others the chief's comes instead."""
        self._given.version = None
        if not self._is_chief and self._given.keeps:
            self._given.keep(self._way.values())

    def begin_step(self) -> None:
        """Refuses what was set since the last exchange, where it looks.

        Raises:
            RuntimeError: If something was.
        """
        given = self._given
        if not given.keeps:
            return
        self._refuse(given.differing(self._way.values()))
        if given.version not in (None, self._seen) and not self._acts:
            self._left, self._seen = self._left - 1, given.version
            given.keeps = self._left > 0

    def settle(self, newest: Weights) -> None:
        """Refuses what was set since the last exchange of an epoch.

        Args:
            newest: What the server has, which is that of the last exchange
                where no update has come between.

        Raises:
            RuntimeError: If something was.
        """
        given = self._given
        if not given.keeps:
            is_newest = given.version == newest.version
            given.values = newest.values if is_newest else None
        if self._way.holds_weights:
            self._refuse(given.differing(self._way.values()))

    def _refuse(self, places: Sequence[int]) -> None:
        if not places:
            return
        first = self._way.trained[places[0]].path
        others = f" and {len(places) - 1} more" if places[1:] else ""
        raise RuntimeError(
            "Within an epoch the weights are the server's, whose next ones "
            "would overwrite what a worker sets. Received: other values of "
            f"{first!r}{others} than the last exchange gave, set by "
            "`on_train_batch_begin` or `on_train_batch_end` of a callback, or "
            "by a step of your own. Give the layer a `constraint=`, which the "
            "server applies, set them in `on_epoch_begin` or `on_epoch_end`, "
            "or use a synchronous strategy."
        )


def _acts_in_steps(callback: keras.callbacks.Callback) -> bool:
    return any(_is_own(getattr(callback, name)) for name in _HOOKS)


def _is_own(hook: object) -> bool:
    function = getattr(hook, "__func__", hook)
    module = getattr(function, "__module__", None) or ""
    return module.split(".")[0] not in ("keras", "tfdp")
