"""What the chief hands to workers that join: all that a server has not."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfdp.backup.backup_folder import Backup
from tfdp.backup.callback_states import CallbackStates, arrays_of_model
from tfdp.backup.history import fill_history, history_of
from tfdp.backup.training_state import TrainingState
from tfdp.strategy import DataParallelStrategy


class Handover:
    """Hands statistics, history and what callbacks remember to other workers.

    They decide as the chief does then, whenever they come. Weights that steps
    do not change are handed over once.

    Args:
        model: The model that is fitted.
        strategy: The strategy in whose scope it was built.
        callbacks: Those of the `fit`, before training has begun.
    """

    def __init__(
        self,
        model: keras.Model,
        strategy: DataParallelStrategy,
        callbacks: Sequence[keras.callbacks.Callback],
    ) -> None:
        self._model, self._strategy = model, strategy
        self._states = CallbackStates(callbacks)

    def captured(self, **more: Any) -> dict[str, np.ndarray]:
        """Returns what is handed over, as arrays by name.

        Args:
            **more: What else, as JSON can hold it.

        Raises:
            TypeError: If a `get_state` of a callback returns what cannot be.
        """
        arrays = TrainingState(self._model, self._strategy).captured_rest()
        about = {
            **more,
            "callbacks": self._states.captured(arrays),
            **history_of(self._model),
        }
        return Backup(arrays, about).as_arrays()

    def restore_model(
        self, arrays: Mapping[str, np.ndarray]
    ) -> Mapping[str, Any]:
        """Gives the model what the chief's has.

        Args:
            arrays: What `captured` has returned on the chief.

        Returns:
            What else it has handed over.
        """
        self._backup = Backup.of_arrays(arrays)
        TrainingState(self._model, self._strategy).restore_rest(
            arrays_of_model(self._backup.arrays)
        )
        return self._backup.about

    def restore_callbacks(self) -> None:
        """Gives callbacks what the chief's remember, once they have begun."""
        about = self._backup.about
        states = about["callbacks"]
        self._states.restore(states, self._backup.arrays)
        fill_history(self._model, about)
        lost = self._states.lost(states)
        if lost:
            warnings.warn(
                "A worker that joins is handed what the chief's callbacks "
                f"remember. Received some that begin anew: {'; '.join(lost)}. "
                "Give a callback of your own `get_state()` and "
                "`set_state(state)`, and all workers the same callbacks.",
                stacklevel=3,
            )
