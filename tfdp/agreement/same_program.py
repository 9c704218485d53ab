"""What every worker's program must have in common."""

import json
import platform
import re
import warnings
from importlib import metadata
from typing import Any

import keras
import tensorflow as tf

from tfdp.upstream.keras import inspection, keras_data, keras_fit
from tfdp.upstream.private import optional

# What `compile` calls it, and what it is called here.
_OF_COMPILE = {
    "loss": "the loss",
    "loss_weights": "the weights of losses",
    "metrics": "the metrics",
    "weighted_metrics": "the weighted metrics",
}


def program(model: keras.Model, params: dict[str, Any]) -> dict[str, Any]:
    """Describes what a worker is about to train, and how.

    Args:
        model: The compiled model, in a `fit` or before it.
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
        "samples of a step": _samples(),
        "elements of the data": _elements(),
        "shapes of weights": [
            f"{unnumbered(v.path)} {tuple(v.shape)} {v.dtype}"
            for v in model.weights
        ],
        **{
            f"optimizer {i}": _configuration(optimizer)
            for i, optimizer in enumerate(inspection.optimizers(model))
        },
        **_compiled(model),
    }


def _compiled(model: keras.Model) -> dict[str, str]:
    """What `compile` was given besides the optimizer; nothing untold."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            given = model.get_compile_config() or {}
    except Exception:  # Of what Keras does not know how to describe.
        return {}
    return {
        name: plain_text(given[key])
        for key, name in _OF_COMPILE.items()
        if given.get(key) is not None
    }


def _samples() -> int | None:
    """Samples of a full step of the fit under way, where its data tell."""
    fit = keras_fit.fit_under_way()
    if fit is None:
        return None
    with optional():
        rows = keras_data.batch_of_arrays(fit)
        return rows or keras_data.distributed_dataset(fit).micro_batch
    return None


def _elements() -> list[str] | None:
    """Types of a sample, as the fit under way is given it."""
    fit = keras_fit.fit_under_way()
    if fit is None:
        return None
    spec: Any = []
    with optional():
        spec = keras_data.distributed_dataset(fit).source.element_spec
    # The first axis is the batch, whose size workers may know or not.
    return [
        f"{leaf.dtype.name} {leaf.shape[1:]}"
        for leaf in tf.nest.flatten(spec)
        # Where a sample has `None`, there is none.
        if hasattr(leaf, "dtype")
    ]


def _configuration(optimizer: keras.optimizers.Optimizer) -> str:
    kind = type(optimizer).__name__
    try:
        with warnings.catch_warnings():
            # Of a rate that is a lambda.
            warnings.simplefilter("ignore")
            config = keras.saving.serialize_keras_object(optimizer)["config"]
    except NotImplementedError:
        # A schedule need not say how it is made.
        return kind
    return f"{kind} {plain_text(config)}"


def plain_text(value: Any) -> str:
    """Returns a configuration as text that differs where its content does.

    Example:

    >>> plain_text({"name": "adam_2", "learning_rate": 0.1})
    '{"learning_rate": 0.1}'
    """
    if isinstance(value, str):
        return value
    return json.dumps(unnamed(value), sort_keys=True, default=_named)


def unnumbered(path: str) -> str:
    """Returns the path of a variable, as of the first model of a process.

    Example:

    >>> unnumbered("dense_3/kernel")
    'dense/kernel'
    """
    # Keras numbers names by what else the process has made.
    return re.sub(r"_\d+(?=/)", "", path)


def unnamed(config: Any) -> Any:
    """Returns a configuration without names, and lambdas by the word.

    Example:

    >>> unnamed({"name": "adam_2", "learning_rate": 0.1})
    {'learning_rate': 0.1}
    """
    if isinstance(config, dict):
        if config.get("class_name") == "__lambda__":
            return "lambda"
        return {k: unnamed(v) for k, v in config.items() if k != "name"}
    if isinstance(config, list | tuple):
        return [unnamed(value) for value in config]
    return config


def _named(value: Any) -> str:
    return getattr(value, "__name__", type(value).__name__)
