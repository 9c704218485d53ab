"""Whether a `fit` is still there, seen from outside of its thread."""

import sys
import threading
from collections.abc import Callable

from tfdp.upstream.keras import keras_fit

_SECONDS = 0.25


class FitWatch:
    """Tells when a `fit` is left, as by the error of a callback.

    TensorFlow ends what reads data when nobody holds it any more, and waits for
    it; who waits for a batch then would keep it for ever.

    It looks at which functions that thread is in, and at nothing that they
    hold: whoever does, may be the last to let go of it.

    Args:
        left: Called, from another thread, once the `fit` that this thread is
            in is no more.
    """

    def __init__(self, left: Callable[[], None]) -> None:
        frame = keras_fit.frame_of_fit()
        self._fit = id(frame), getattr(frame, "f_code", None)
        self._left = left
        self._of = threading.get_ident()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Watches no more; a program may end then."""
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._is_over.wait(_SECONDS):
            if not self._is_there():
                self._left()
                return

    def _is_there(self) -> bool:
        frame = sys._current_frames().get(self._of)
        while frame is not None:
            if (id(frame), frame.f_code) == self._fit:
                return True
            frame = frame.f_back
        return False
