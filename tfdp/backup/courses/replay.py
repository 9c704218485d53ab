"""Steps that only take data, until a fit is where it was."""

import inspect
import time
from collections.abc import Callable
from typing import Any

import keras

from tfdp.backup.courses.data_position import DataPosition, skip
from tfdp.upstream.keras import keras_fit

_LONG_SECONDS = 5


class Replay:
    """Stands in for the training step of the fit that is about to begin.

    So other callbacks see the steps of the resumed epoch in their order.

    Args:
        model: The model that is fitted, from `on_train_begin` of a callback.
        position: Where its fit is in its data.
        batches: Batches of the epoch to skip.
        ahead: Batches to skip before them, of earlier epochs.
        reads: Whether the batches have to be read for that; otherwise the
            data begin after them.
        restore: Called in the first step, when all callbacks have begun the
            epoch.
    """

    def __init__(
        self,
        model: keras.Model,
        position: DataPosition,
        *,
        batches: int,
        ahead: int,
        reads: bool,
        restore: Callable[[], None],
    ) -> None:
        self._model = model
        self._position = position
        self._left = batches
        self._ahead = ahead
        self._reads = reads
        self._read = 0
        self._seconds = 0.0
        self._restore: Callable[[], None] | None = restore
        self._fit = keras_fit.fit_under_way()
        self._train = model.train_function
        self.is_on = True
        model.train_function = self._step

    def tell(self) -> None:
        """Prints how long it has read, where that was long."""
        if self._seconds > _LONG_SECONDS:
            print(
                f"Read {self._read} batches again in {self._seconds:.0f} s to "
                "get there. In the order of `tfdp.shuffled_range`, with "
                "nothing but `map`, `tfdp.shard`, `batch` and `prefetch` after "
                "it, none is read.",
                flush=True,
            )

    def stop(self) -> None:
        """Gives the training step back."""
        self.is_on = False
        self._model.train_function = self._train

    @property
    def is_through(self) -> bool:
        """Whether the step to come is the first to train."""
        return self._restore is None and self._left <= 0

    def _step(self, iterator: Any) -> Any:
        if keras_fit.fit_under_way() is not self._fit:
            # That one was aborted before it got here.
            self.stop()
            return self._train(iterator)
        if self._restore is not None:
            self._restore()
            self._restore = None
            self._skip(iterator, self._ahead)
            self._position.end_step(self._ahead)
        if self._left > 0:
            per_step = self._model.steps_per_execution
            self._skip(iterator, min(per_step, self._left))
            self._left -= per_step
            return self._model.get_metrics_result()
        self.stop()
        return self._train(iterator)

    def _skip(self, iterator: Any, batches: int) -> None:
        if self._reads:
            begun = time.monotonic()
            skip(iterator, batches)
            self._read += batches
            self._seconds += time.monotonic() - begun


def is_replaying(model: keras.Model) -> bool:
    """Whether the next step of a fit may only take data.

    Args:
        model: The model that is fitted.
    """
    # What names lost workers may be around it.
    step = inspect.unwrap(model.train_function)
    return isinstance(getattr(step, "__self__", None), Replay)
