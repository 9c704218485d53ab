"""Outputs of a sample that depend on the others in its batch."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdp.audits.findings import Finding
from tfdp.step import counted, gradients_mix
from tfdp.upstream.keras import inspection, keras_models

_DIGITS = {"float16": 2e-2, "bfloat16": 2e-2}


def findings(
    model: keras.Model, whole: Any, parts: list[Any]
) -> list[Finding] | None:
    """Calls a model on inputs, and on parts of them, and compares.

    Args:
        model: A built model.
        whole: Inputs of a batch.
        parts: The same inputs, divided.

    Returns:
        What was found; `None` of a model that calls `tfdp.gather`, of which
        one replica's outputs and losses tell nothing.
    """
    looks = _named_outputs(model)
    name, outputs = looks[-1]
    with counted((whole,)):
        once, again = (_arrays(outputs(whole)) for _ in range(2))
        knows = gradients_mix()
    if knows:
        return None
    # Random also outside of training, there is no comparing.
    is_random = not _all_close(model, once, again)
    if is_random or not _differ(model, outputs, whole, parts):
        return []
    for layer, outputs in looks[:-1]:
        if _differ(model, outputs, whole, parts):
            name = layer
            break
    return [
        Finding(
            "What a model makes of a sample must not depend on the others "
            "in its batch.",
            f"`{name}`, whose output does, so that each replica's is that of "
            "its part of the batch",
            "error",
            "Let it look at the samples of all replicas: tfdp.gather(tensor).",
        )
    ]


def _named_outputs(model: keras.Model) -> list[tuple[str, Any]]:
    """Returns models that end at each layer, where that is known, and all."""

    def all_of_it(x: Any) -> Any:
        return keras_models.outputs_of(model, x)

    named: list[tuple[str, Any]] = []
    if inspection.outputs(model):
        for layer in model.layers:
            if isinstance(layer, keras.layers.InputLayer):
                continue
            try:
                until = keras.Model(model.inputs, layer.output)
            except (AttributeError, ValueError):
                # Called several times, or not on the way from these inputs.
                continue
            named.append((layer.name, until))
    return [*named, (model.name, all_of_it)]


def _differ(model: keras.Model, outputs: Any, x: Any, parts: list[Any]) -> bool:
    whole = _arrays(outputs(x))
    computed = [_arrays(outputs(part)) for part in parts]
    # Where other axes are the batch too, parts do not fit together.
    fitting = [
        all(part.shape[1:] == one.shape[1:] for part in each)
        for one, *each in zip(whole, *computed, strict=True)
    ]
    if not all(fitting):
        return True
    together = [np.concatenate(rows) for rows in zip(*computed, strict=True)]
    if _all_close(model, whole, together):
        return False
    # Of a sum that is about zero only what rounding leaves is there.
    moved = _arrays(outputs(keras.tree.map_structure(_moved, x)))
    return any(
        _size(one - other) > 10 * _size(one - by_rounding)
        for one, other, by_rounding in zip(whole, together, moved, strict=True)
    )


def _moved(x: Any) -> Any:
    """Moves numbers by as little as rounding does."""
    if not tf.is_tensor(x) or isinstance(x, tf.SparseTensor):
        return x
    if not x.dtype.is_floating:
        return x
    draw = np.random.default_rng(0).uniform(-1, 1, x.shape)
    eps = np.finfo(x.dtype.as_numpy_dtype).eps
    return x * tf.cast(1 + 4 * eps * draw, x.dtype)


def _arrays(outputs: Any) -> list[Any]:
    leaves = tf.nest.flatten(outputs, expand_composites=True)
    arrays = [np.asarray(x, "float64") for x in leaves if x.dtype.is_floating]
    return [x for x in arrays if x.ndim]


def _all_close(model: keras.Model, ones: list[Any], others: list[Any]) -> bool:
    digits = _DIGITS.get(model.compute_dtype, 1e-4)
    return all(
        one.shape == other.shape
        and np.allclose(one, other, digits, digits * max(1e-6, _size(one)))
        for one, other in zip(ones, others, strict=True)
    )


def _size(values: Any) -> float:
    return float(np.abs(values).max(initial=0.0))
