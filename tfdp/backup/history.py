"""The history of a `fit`, as JSON can hold it."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np


def history_of(model: keras.Model) -> dict[str, Any]:
    """Returns what the `fit` that is running has logged of its epochs.

    Args:
        model: The model that is fitted.

    Returns:
        What `fill_history` takes.
    """
    history = model.history
    return {
        "history": {
            key: np.asarray(values).tolist()
            for key, values in history.history.items()
        },
        "epochs": list(history.epoch),
    }


def fill_history(model: keras.Model, about: Mapping[str, Any]) -> None:
    """Has a `fit` go on with the history of another.

    Args:
        model: The model that is fitted.
        about: What `history_of` has returned, among others.
    """
    model.history.history.update(about["history"])
    model.history.epoch[:] = about["epochs"]
