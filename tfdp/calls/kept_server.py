"""A process that has imported TensorFlow, kept for all workers to come."""

import atexit
from collections.abc import Mapping

from tfdp.launching import ForkServer, fixed

# Not tfdp, which may lie elsewhere for the workers.
_PRELOAD = ("tensorflow", "keras")
_kept: list[ForkServer] = []
_variables_before: dict[str, str] = {}


def server_for(variables: Mapping[str, str]) -> ForkServer | None:
    """Returns a server for workers with these variables, if there is one.

    One is made for the first call, where it has died, and where two calls in a
    row have wanted others. Linux only.

    Args:
        variables: All variables of the workers.
    """
    global _variables_before
    if not any(server.suits(variables) for server in _kept):
        before, _variables_before = _variables_before, dict(variables)
        if _kept and _kept[0].is_alive and fixed(before) != fixed(variables):
            return None
        for server in _kept:
            server.close()
        _kept[:] = [ForkServer(_PRELOAD, env=variables)]
        atexit.register(_kept[0].close)
    return _kept[0]
