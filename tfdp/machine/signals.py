"""The signals that end a job, for as long as somebody handles them."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def ending_signals(
    handler: Callable[[int, Any], object] | signal.Handlers,
) -> Iterator[None]:
    """Has SIGINT and SIGTERM handled; afterwards as before.

    Only in the main thread, where Python handles signals.

    Args:
        handler: As for `signal.signal`.

    Example:

    >>> with ending_signals(signal.SIG_IGN):
    ...     signal.raise_signal(signal.SIGTERM)
    """
    previous = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)
