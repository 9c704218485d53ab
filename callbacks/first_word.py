"""What comes before any other callback is called."""

import functools
import time
from typing import Any

import keras
import tensorflow as tf

from tfdp.backup import is_replaying
from tfdp.board import State, own_board
from tfdp.callbacks.counted_model import counts_samples
from tfdp.machine import kernel_variables
from tfdp.optimizer import UpdateCount
from tfdp.settings import ONEDNN, onednn
from tfdp.strategy import AsynchronousStrategy
from tfdp.upstream.tensorflow import tf_runtime

# Reading the optimizer takes longer than a note does.
_SECONDS_BETWEEN_READINGS = 1.0


def check_first(
    callback: keras.callbacks.Callback,
    callbacks: list[keras.callbacks.Callback],
) -> None:
    """Checks that `DataParallel` comes before the others.

    Args:
        callback: The `DataParallel`.
        callbacks: All callbacks of the fit; none where they are not known.

    Raises:
        RuntimeError: If it does not.
    """
    if callbacks and callbacks[0] is not callback:
        names = [type(c).__name__ for c in callbacks]
        before = names[: callbacks.index(callback)]
        raise RuntimeError(
            "`callbacks.DataParallel` must come first, so that the others see "
            f"the weights of whole updates. Received: {', '.join(before)} "
            "before it. Put it at the head of the list given to `fit`."
        )


@functools.cache
def tell_of_slow_kernels() -> None:
    """Says so, once, where TensorFlow has faster kernels than it uses."""
    if (
        kernel_variables()
        and onednn() is None
        and tf_runtime.uses_onednn() is False
        and not tf.config.get_visible_devices("GPU")
    ):
        print(
            "tfdp: this processor trains with slow kernels, as TensorFlow "
            f"turns oneDNN's off on it. Set {ONEDNN}=1 before the program "
            "starts, as `tfdp launch` does for its workers; 0 for no more of "
            "this.",
            flush=True,
        )


class FirstWord(keras.callbacks.Callback):
    """Notes where a fit stands, for the launcher to see.

    After `DataParallel`, and before the others; `LastWord` is after them. The
    updates are counted from step to step, and read from the optimizer now and
    then, as a step may make several.
    """

    def __init__(self) -> None:
        super().__init__()
        self._board = own_board()
        self._begin = self._steps = self._update = 0
        self._is_first = True

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begins to count, and says what makes all steps slow, once."""
        self._updates = UpdateCount(self.model)
        self._length = self.params.get("steps") or 0
        self._last = -1
        if getattr(self.model.distribute_strategy, "is_chief", True):
            tell_of_slow_kernels()

    def on_epoch_begin(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Notes the epoch."""
        if self._board.is_open:
            self._is_first = True
            self._steps = 0
            self._epoch = epoch
            self._read()
            self._note_course(0)
            self._board.note(State.PAUSE, epoch=epoch, update=self._update)

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Notes which batches are taken."""
        self._begin = batch

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Notes the end of a step, and of an update."""
        if not self._board.is_open:
            return
        if is_replaying(self.model):
            self._board.note(State.REPLAYING)
            return
        before = self._update
        self._last = batch
        self._steps += batch - self._begin + 1
        if (
            self._is_first
            or time.monotonic() - self._read_when > _SECONDS_BETWEEN_READINGS
        ):
            self._read()
            self._note_course(batch + 1)
        self._is_first = False
        self._update = self._counted_from + self._steps // self._cycle
        self._board.note(
            State.CALLBACKS,
            update=self._update,
            made=self._update - before,
        )

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Notes the end of the last step, and a short last cycle."""
        self._end_cycle(State.PAUSE)
        self._length = self._last + 1

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Notes the begin of validation, and a short last cycle."""
        self._end_cycle(State.VALIDATING)

    def on_test_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Notes that it goes on."""
        self._board.note(State.VALIDATING)

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Notes the end of validation."""
        self._board.note(State.PAUSE)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Notes the end."""
        if self._board.is_open:
            self._read()
            self._board.note(State.ENDED, epoch=-1, update=self._update)

    def _end_cycle(self, state: State) -> None:
        if self._board.is_open:
            before = self._update
            self._read()
            self._board.note(
                state,
                update=self._update,
                made=self._update - before,
            )

    def _note_course(self, done: int) -> None:
        """Notes how far this epoch and the fit have come.

        Args:
            done: Batches of this epoch that were trained on.
        """
        goal = samples = -1
        is_apart = isinstance(
            self.model.distribute_strategy, AsynchronousStrategy
        )
        if self._length and not (is_apart or is_replaying(self.model)):
            of_epoch = -(-self._length // self._cycle)
            epochs = self.params["epochs"] - self._epoch
            goal = self._update + epochs * of_epoch - done // self._cycle
        if counts_samples(self.model):
            samples = sum(self.model.optimizer.samples_by_replica())
        self._board.note(goal=goal, samples=samples)

    def _read(self) -> None:
        self._update = self._counted_from = self._updates.now()
        self._cycle = getattr(self.model.optimizer, "accumulation_steps", 1)
        # Where it is read in the middle of a cycle, that goes on.
        self._steps %= self._cycle
        self._read_when = time.monotonic()
