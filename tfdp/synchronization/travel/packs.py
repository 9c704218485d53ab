"""The packs that gradients travel in: how large, in which order, of what."""

from collections.abc import Sequence

import tensorflow as tf

from tfdp.step import Gradient

# To copy a larger one takes longer than to start kernels for it.
_LARGE = 2**16


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
        size = num_bytes(gradients[place])
        if size > bytes_per_pack:
            sent.append(place)
            continue
        waiting.append(place)
        waiting_bytes += size
        if waiting_bytes > bytes_per_pack:
            sent += waiting
            waiting, waiting_bytes = [], 0
    return (sent + waiting)[::-1]


class Packed:
    """Tensors of which the small ones of a type are one, in packs.

    What is done to the sum of each, as to divide it, is then done to packs. A
    pack is closed as `ready_first` closes it.

    Args:
        tensors: Gradients, or other tensors.
        bytes_per_pack: Size of a pack.

    Attributes:
        tensors: The packs, and what is in none.

    Example:

    >>> packed = Packed([tf.zeros(4), tf.ones((2, 2))], bytes_per_pack=2**20)
    >>> [tensor.shape[0] for tensor in packed.tensors]
    [8]
    >>> [tensor.shape.rank for tensor in packed.unpacked(packed.tensors)]
    [1, 2]
    """

    def __init__(
        self, tensors: Sequence[Gradient], bytes_per_pack: int
    ) -> None:
        self._shapes = [tensor.shape for tensor in tensors]
        self._packs: list[list[int]] = []
        small = [i for i, each in enumerate(tensors) if _is_small(each)]
        for dtype in dict.fromkeys(tensors[i].dtype for i in small):
            alike = [i for i in small if tensors[i].dtype == dtype]
            self._packs += _groups(alike, tensors, bytes_per_pack)
        inside = {i for pack in self._packs for i in pack}
        self._apart = [i for i in range(len(tensors)) if i not in inside]
        self.tensors: list[Gradient] = [
            *(_flat([tensors[i] for i in pack]) for pack in self._packs),
            *(tensors[i] for i in self._apart),
        ]

    def unpacked(self, tensors: Sequence[Gradient]) -> list[Gradient]:
        """Returns the tensors that are in others as packed.

        Args:
            tensors: As many as `tensors`, of the same shapes.

        Returns:
            As many as were packed, in their order.
        """
        found = dict(zip(self._apart, tensors[len(self._packs) :], strict=True))
        for pack, tensor in zip(self._packs, tensors, strict=False):
            shapes = [self._shapes[i] for i in pack]
            parts = tf.split(tensor, [each.num_elements() for each in shapes])
            for i, part, shape in zip(pack, parts, shapes, strict=True):
                found[i] = part if shape.rank == 1 else tf.reshape(part, shape)
        return [found[i] for i in range(len(self._shapes))]


def _is_small(tensor: Gradient) -> bool:
    size = None
    if not isinstance(tensor, tf.IndexedSlices):
        size = tensor.shape.num_elements()
    return size is not None and size < _LARGE


def _groups(
    places: Sequence[int], tensors: Sequence[Gradient], bytes_per_pack: int
) -> list[list[int]]:
    """Splits places into packs, last first, of at least two each."""
    groups: list[list[int]] = [[]]
    size = 0
    for place in reversed(places):
        groups[-1].append(place)
        size += num_bytes(tensors[place])
        if size > bytes_per_pack:
            groups.append([])
            size = 0
    return [group for group in groups if len(group) > 1]


def _flat(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    flat = [t if t.shape.rank == 1 else tf.reshape(t, [-1]) for t in tensors]
    return tf.concat(flat, axis=0)


def num_bytes(gradient: Gradient) -> int:
    """Returns the size of a dense gradient whose shape is known, else 0."""
    if isinstance(gradient, tf.IndexedSlices):
        # Slices travel apart.
        return 0
    return (gradient.shape.num_elements() or 0) * gradient.dtype.size
