"""The packs that gradients travel in: how large, and in which order."""

from collections.abc import Sequence

import tensorflow as tf

from tfdp.step import Gradient


def ready_first(
    gradients: Sequence[Gradient], bytes_per_pack: int
) -> list[int]:
    """Orders gradients for TensorFlow, which packs them from the last on.

    It closes a pack that has grown beyond `bytes_per_pack`. The backward pass
    makes the last gradients first, so that packs can leave before it ends. A
    gradient that fills a pack by itself gets one of its own, since it would
    else be copied into the pack and out of it.

    Args:
        gradients: In the order of the variables.
        bytes_per_pack: Size of a pack.

    Returns:
        Places in `gradients`, in the order to give them in.

    Example:

    >>> small, large = tf.zeros(4), tf.zeros((1024, 1024))
    >>> ready_first([small, large, small, large], bytes_per_pack=2**20)
    [0, 2, 1, 3]
    """
    sent: list[int] = []
    waiting: list[int] = []
    waiting_bytes = 0
    for place in reversed(range(len(gradients))):
        size = _bytes(gradients[place])
        if size > bytes_per_pack:
            sent.append(place)
            continue
        waiting.append(place)
        waiting_bytes += size
        if waiting_bytes > bytes_per_pack:
            sent += waiting
            waiting, waiting_bytes = [], 0
    return (sent + waiting)[::-1]


def _bytes(gradient: Gradient) -> int:
    if isinstance(gradient, tf.IndexedSlices):
        # Slices travel apart.
        return 0
    return (gradient.shape.num_elements() or 0) * gradient.dtype.size
