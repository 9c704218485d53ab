"""What the chief has handed over already."""

import zlib
from collections.abc import Mapping

import numpy as np


def changed_since(
    digests: Mapping[str, int], state: Mapping[str, np.ndarray]
) -> tuple[list[str], dict[str, int]]:
    """Returns which arrays are others than before, and digests of all.

    Args:
        digests: Those of before, by name.
        state: The arrays, by name.

    Example:

    >>> changed, digests = changed_since({}, {"a": np.zeros(2)})
    >>> changed_since(digests, {"a": np.zeros(2), "b": np.ones(1)})[0]
    ['b']
    """
    now = {
        name: zlib.crc32(np.ascontiguousarray(array).tobytes())
        for name, array in state.items()
    }
    return [name for name in now if digests.get(name) != now[name]], now
