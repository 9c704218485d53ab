"""Which `fit` of the workers' program is under way, and which epoch."""

import threading
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tfdp.asynchronous.staleness import Lost


class Fits:
    """Lets workers into a `fit`, and into an epoch, once the chief is there.

    So a state that it loads, and a learning rate that its callbacks set, are
    there before anybody trains. A program may call `fit` several times; who
    comes late goes through those that are over without waiting.

    Attributes:
        ended: How many fits have ended.
        is_stopped: Whether the one at hand is to end at once.
        first_epoch: Where those begin that come, if the chief has said it.
        handed: What they are handed, in the fit at hand.

    Example:

    >>> fits = Fits()
    >>> fits.join(0)
    >>> fits.begin(0, 0, is_chief=True)
    >>> fits.is_open(0, (0, 0), is_chief=True)
    True
    >>> fits.end()
    >>> fits.is_open(0, (0, 1), is_chief=True)
    False
    """

    def __init__(self) -> None:
        self.ended = 0
        self.is_stopped = False
        self.first_epoch: int | None = None
        self.handed: Mapping[str, np.ndarray] = {}
        self._changed = threading.Condition()
        self._lives: dict[int, object] = {}
        # What the chief has begun: the newest fit, and its newest epoch.
        self._begun, self._open = -1, (-1, -1)

    def join(self, worker: int) -> None:
        """Lets a worker wait."""
        with self._changed:
            self._lives[worker] = object()
            self._changed.notify_all()

    def lose(self, worker: int) -> None:
        """Wakes what waits for a worker."""
        with self._changed:
            self._lives.pop(worker, None)
            self._changed.notify_all()

    def begin(
        self, worker: int, fit: int, *, is_chief: bool, opens: bool = True
    ) -> None:
        """Begins a fit, or waits until the chief has opened it.

        Also the chief waits until the others have ended one that it has left.

        Args:
            worker: Who begins.
            fit: Index of the fit.
            is_chief: Whether it is the chief, which opens it.
            opens: Whether the chief opens it at once.

        Raises:
            Lost: If the worker is lost, before or meanwhile.
        """
        with self._changed:
            if is_chief and opens:
                self.open(fit)
            self._wait(
                worker,
                lambda: self.ended >= fit and (is_chief or self._begun >= fit),
            )

    def open(self, fit: int, epoch: int | None = None) -> None:
        """Lets others take part.

        Args:
            fit: Index of the fit.
            epoch: Where they begin; `None` for where their programs say.
        """
        with self._changed:
            if fit > self._begun:
                self._begun, self.first_epoch = fit, epoch
            self._changed.notify_all()

    def hand_over(
        self, changed: Mapping[str, np.ndarray], names: Sequence[str]
    ) -> None:
        """Keeps what those that come are handed.

        Args:
            changed: What is not there already.
            names: Of all of it.
        """
        with self._changed:
            found = {**self.handed, **changed}
            self.handed = {name: found[name] for name in names}

    def is_open(
        self,
        worker: int,
        asked: tuple[int, int],
        *,
        is_chief: bool,
        before_waiting: Callable[[], object] = lambda: None,
    ) -> bool:
        """Waits until the chief is in a fit and an epoch.

        Args:
            worker: Who asks.
            asked: Index of the fit, and of its epoch; -1 for any epoch.
            is_chief: Whether it is the chief, which opens them.
            before_waiting: Called, if it has to wait. Defaults to nothing.

        Returns:
            Whether the fit is under way; not if it is over.

        Raises:
            Lost: If the worker is lost, before or meanwhile.
        """
        fit = asked[0]

        def is_settled() -> bool:
            is_over = fit < self.ended or self.is_stopped
            return is_over or self._open >= asked

        with self._changed:
            if is_chief and fit == self.ended:
                self._open = max(self._open, asked)
                self._changed.notify_all()
            if not is_settled():
                before_waiting()
            self._wait(worker, is_settled)
            return fit == self.ended

    def stop(self, fit: int) -> bool:
        """Has a fit end at once, if it is under way; returns whether it is."""
        with self._changed:
            is_at_hand = fit == self.ended
            self.is_stopped = self.is_stopped or is_at_hand
            self._changed.notify_all()
            return is_at_hand

    def end(self) -> None:
        """Ends a fit."""
        with self._changed:
            self.ended, self.is_stopped = self.ended + 1, False
            self.handed, self.first_epoch = {}, None
            self._changed.notify_all()

    def _wait(self, worker: int, until: Callable[[], bool]) -> None:
        life = self._lives.get(worker)
        self._changed.wait_for(
            lambda: until() or self._lives.get(worker) is not life
        )
        if life is None or self._lives.get(worker) is not life:
            raise Lost(f"worker {worker}")
