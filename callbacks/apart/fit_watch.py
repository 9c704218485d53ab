"""Whether a `fit` is still there, seen from outside of its thread."""

import sys
import threading
from collections.abc import Callable
from typing import Any

from tfdp.upstream.keras import keras_fit

_SECONDS = 0.25


class FitWatch:
    """Tells when a `fit` is left, as by the error of a callback.

    TensorFlow ends what reads data when nobody holds it any more, and waits for
    it; who waits for a batch then would keep it for ever.

    Args:
        fit: The `EpochIterator` of the `fit` that this thread is in.
        left: Called, from another thread, once it is no more.
    """

    def __init__(self, fit: Any, left: Callable[[], None]) -> None:
        self._fit = id(fit)
        self._left = left
        self._thread = threading.get_ident()
        self._is_over = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def close(self) -> None:
        """Watches no more."""
        self._is_over.set()

    def _watch(self) -> None:
        while not self._is_over.wait(_SECONDS):
            frame = sys._current_frames().get(self._thread)
            fit = None if frame is None else keras_fit.fit_under_way(frame)
            is_there = id(fit) == self._fit
            del frame, fit
            if not is_there:
                self._left()
                return
