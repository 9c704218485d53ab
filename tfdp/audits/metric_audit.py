"""Metrics whose value depends on the batch as a whole."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdp.audits.findings import Finding
from tfdp.audits.scalars import is_scalar
from tfdp.metrics import DistributedMetric
from tfdp.upstream.keras import inspection, keras_models

_RULE = "A metric must be a sum or mean over samples, or of counts."
_WRAP = "Wrap it: tfdp.DistributedMetric(metric)."


def findings(model: keras.Model) -> Iterator[Finding]:
    """Finds functions that return one number for a batch.

    Args:
        model: A compiled model.
    """
    outputs = inspection.outputs(model)
    output = outputs[0] if len(outputs) == 1 else None
    for metric in keras_models.compiled_metrics(model):
        is_function = callable(metric) and not isinstance(
            metric, type | keras.metrics.Metric
        )
        if is_function and is_scalar(metric, keras.config.floatx(), output):
            name = getattr(metric, "__name__", type(metric).__name__)
            yield Finding(
                _RULE,
                f"`{name}`, which returns one scalar per batch, of which that "
                "of each replica's part would be averaged",
                "warning",
                _WRAP,
            )


def findings_in_data(
    model: keras.Model, batch: Any, parts: list[Any]
) -> Iterator[Finding]:
    """Compares what metrics make of a batch and of its parts.

    Args:
        model: A built model of one output; others are not looked at.
        batch: Inputs, labels and sample weights.
        parts: The same, divided in two.
    """
    x, y, _ = batch
    if model.distribute_strategy.num_replicas_in_sync == 1 or not (
        tf.is_tensor(y) and tf.is_tensor(keras_models.outputs_of(model, x))
    ):
        return
    for metric in keras_models.compiled_metrics(model):
        is_told = isinstance(metric, keras.metrics.Metric) and not isinstance(
            metric, DistributedMetric
        )
        if is_told and _depends_on_the_batch(metric, model, batch, parts):
            yield Finding(
                _RULE,
                f"`{metric.name}`, which makes another value of a batch than "
                "of what replicas count of its parts",
                "warning",
                _WRAP,
            )


def _depends_on_the_batch(
    metric: keras.metrics.Metric,
    model: keras.Model,
    batch: Any,
    parts: list[Any],
) -> bool:
    try:
        whole, *halves = [
            _counted(metric, model, *each) for each in (batch, *parts)
        ]
        together = _counted(metric, model, *batch)
        for place, variable in enumerate(together.variables):
            # As Keras reads what replicas have counted.
            counts = [half.variables[place].numpy() for half in halves]
            variable.assign(np.sum(counts, axis=0))
        results = [_numbers(each.result()) for each in (whole, together)]
    except Exception:
        # One that cannot be copied, or takes something else.
        return False
    return not all(
        np.allclose(one, other, rtol=1e-3, atol=1e-5, equal_nan=True)
        for one, other in zip(*results, strict=True)
    )


def _counted(
    metric: keras.metrics.Metric, model: keras.Model, x: Any, y: Any, _: Any
) -> keras.metrics.Metric:
    copy = type(metric).from_config(metric.get_config())
    copy.update_state(y, keras_models.outputs_of(model, x))
    return copy


def _numbers(result: Any) -> list[np.ndarray]:
    return [np.asarray(each, "float64") for each in tf.nest.flatten(result)]
