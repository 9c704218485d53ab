"""An epoch that counts as begun, but takes no batch before it is used.

Keras begins one at the end of each epoch, the last included, and mostly never
uses it. A shuffling draws its order when it is begun, so that on one device
one order is drawn for it. Here it is drawn when anything else begins.
"""

import weakref
from collections.abc import Iterator
from typing import Any, Protocol

import tensorflow as tf

from tfdp.upstream.tensorflow import tf_datasets


class _Begins(Protocol):
    source: tf.data.Dataset
    order: tf.data.Dataset
    times_begun: int

    def begun(self) -> Iterator[Any]: ...


class LaterEpoch:
    """An epoch whose iterator is made when a batch is asked for.

    An iterator over several devices reads ahead once it is made.

    Args:
        dataset: What to begin.
        is_kept: Whether it is used although others begin before.

    Attributes:
        iterator: What it takes batches from, once it was used.
    """

    def __init__(self, dataset: _Begins, *, is_kept: bool = False) -> None:
        self._dataset = dataset
        self._is_counted = False
        # Python code would be asked for its batches before its epoch.
        self.reads_early = is_kept and not tf_datasets.calls_python(
            dataset.source
        )
        self.iterator: Iterator[Any] | None = None

    def __iter__(self) -> "LaterEpoch":
        """Counts as begun."""
        if not self._is_counted:
            self._is_counted = True
            draw_for_unused()
            _unused.append(_Unused(self, self._dataset.order))
            self._dataset.times_begun += 1
        return self

    def __next__(self) -> Any:
        """Returns the next batch."""
        return next(self.begun())

    def begun(self) -> Iterator[Any]:
        """Returns the iterator, which is made when it is first asked for."""
        if self.iterator is None:
            if _unused and _unused[0].is_of(self):
                _unused.clear()
            self.iterator = self._dataset.begun()
        return self.iterator


class _Unused:
    """What an epoch that was not used yet has to draw. Keeps no data."""

    def __init__(self, epoch: LaterEpoch, order: tf.data.Dataset) -> None:
        self._epoch = weakref.ref(epoch)
        self._pipeline = _Weakly(order)

    def is_of(self, epoch: LaterEpoch) -> bool:
        return self._epoch() is epoch

    def draw(self) -> None:
        epoch = self._epoch()
        if epoch is not None and epoch.reads_early:
            epoch.begun()
        else:
            self._pipeline.begin()


class _Weakly:
    """A dataset, and those that it is made of, for as long as others hold them.

    Programs keep the dataset that shuffles, and make others of it for each
    `fit`.
    """

    def __init__(self, dataset: tf.data.Dataset) -> None:
        self._dataset = weakref.ref(dataset)
        self._inputs = [_Weakly(i) for i in tf_datasets.inputs(dataset)]

    def begin(self) -> None:
        dataset = self._dataset()
        if dataset is not None:
            iter(dataset)
            return
        for each in self._inputs:
            each.begin()


# At most one: each is drawn for before the next.
_unused: list[_Unused] = []


def draw_for_unused() -> None:
    """Draws the orders of an epoch that nobody used before another begins."""
    while _unused:
        with tf.init_scope():
            _unused.pop().draw()
