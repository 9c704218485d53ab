"""What is told once every other callback has been called."""

from typing import Any, Protocol

import keras

from tfdp.backup import is_replaying
from tfdp.board import State, own_board
from tfdp.strategy import no_batches


class Edges(Protocol):
    """Who is told."""

    @property
    def may_have_none(self) -> bool:
        """Whether an epoch may end without a step of this worker's."""

    def begin_training(self) -> None:
        """Hears of the begin of training."""

    def begin_epoch(self, epoch: int) -> None:
        """Hears of the begin of an epoch."""

    def begin_step(self) -> None:
        """Hears of the begin of a step."""

    def end_update(self) -> None:
        """Hears of the end of a step."""

    def end_epoch(self) -> None:
        """Hears of the end of an epoch."""


class LastWord(keras.callbacks.Callback):
    """Tells `DataParallel` when every other callback has been called.

    And notes that a step begins, as `FirstWord` notes its end.
    """

    def __init__(self, edges: Edges) -> None:
        super().__init__()
        self._edges = edges
        self._board = own_board()
        self._steps = 0
        self._is_first = True

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Tells of the begin of training."""
        self._edges.begin_training()

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Tells of the begin of a step."""
        self._edges.begin_step()
        state = State.TRAINING
        if self._is_first:
            self._is_first = is_replaying(self.model)
            state = State.REPLAYING if self._is_first else State.FIRST_STEP
        self._board.note(state, step=self._steps + 1)

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Tells of the end of a step."""
        self._steps += 1
        self._edges.end_update()

    def on_epoch_begin(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Tells of the begin of an epoch."""
        self._edges.begin_epoch(epoch)
        self._is_first = True

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Tells of the end of an epoch; refuses one of nothing."""
        if not self._steps and not self._edges.may_have_none:
            # Nor in the epochs before.
            raise no_batches()
        self._edges.end_epoch()
