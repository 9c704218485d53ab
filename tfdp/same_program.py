"""What every worker's program must have in common."""

import json
import platform
from importlib import metadata
from typing import Any

import keras
import tensorflow as tf

from tfdp import inspection


def program(model: keras.Model, params: dict[str, Any]) -> dict[str, Any]:
    """Describes what a worker is about to train, and how.

    Args:
        model: The compiled model.
        params: Parameters of the `fit`: `"epochs"` and `"steps"`.

    Returns:
        Items by name, for `tfdp.agreement.check_same`.
    """
    versions = {
        "Python": platform.python_version(),
        "TensorFlow": tf.__version__,
        "Keras": keras.__version__,
        "tfdp": metadata.version("tfdp"),
    }
    return {
        **{f"version of {name}": value for name, value in versions.items()},
        "epochs": params.get("epochs"),
        "steps per epoch": params.get("steps"),
        "steps per execution": model.steps_per_execution,
        "shapes of weights": [
            f"{v.path} {tuple(v.shape)} {v.dtype}" for v in model.weights
        ],
        **{
            f"optimizer {i}": _configuration(optimizer)
            for i, optimizer in enumerate(inspection.optimizers(model))
        },
    }


def _configuration(optimizer: keras.optimizers.Optimizer) -> str:
    config = keras.saving.serialize_keras_object(optimizer)
    return json.dumps(config["config"], sort_keys=True, default=_named)


def _named(value: Any) -> str:
    return getattr(value, "__name__", type(value).__name__)
