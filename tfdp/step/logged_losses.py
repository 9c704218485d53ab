"""Losses that a step of the user's own logs, as one device would log them.

Such a step gives a metric, or returns, the loss that it takes the gradient of:
the mean over one replica's samples, divided by the number of replicas.
"""

import contextlib
import functools
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from tfdp.step.division import Divisions, divisions, noting_divisions, undivided
from tfdp.step.parts import logging
from tfdp.step.samples import local_samples
from tfdp.step.waiting import tensors_in
from tfdp.upstream.keras import inspection, keras_fit
from tfdp.upstream.tensorflow import tf_replicas

_METHODS = ("train_step", "test_step", "compute_loss", "compute_metrics")
_returns_variable: weakref.WeakSet[keras.metrics.Metric] = weakref.WeakSet()
_warned: weakref.WeakSet[keras.Model] = weakref.WeakSet()


def logs_itself(model: keras.Model) -> bool:
    """Whether code of the user's decides what a step of the model logs."""
    several = model.distribute_strategy.num_replicas_in_sync > 1
    return several and any(keras_fit.is_own(model, name) for name in _METHODS)


@contextlib.contextmanager
def metrics_of_all(model: keras.Model | None) -> Iterator[None]:
    """Has metrics of a model be told of losses that are not divided.

    Args:
        model: The model whose step runs, or `None` where that is no model's.
    """
    with contextlib.ExitStack() as stack:
        for metric in inspection.metrics(model) if model else ():
            methods: dict[str, Any] = {
                "result": functools.partial(_result, metric, metric.result)
            }
            if logs_itself(model) and _is_mean_or_sum(metric):
                methods["update_state"] = functools.partial(
                    _update, model, metric, metric.update_state
                )
            stack.enter_context(_instead(metric, methods))
        yield


@contextlib.contextmanager
def _instead(
    metric: keras.metrics.Metric, methods: dict[str, Any]
) -> Iterator[None]:
    held = vars(metric)
    before = {name: held[name] for name in methods if name in held}
    held.update(methods)
    try:
        yield
    finally:
        for name in methods:
            # A result that is a variable is none for Keras, in any call.
            if name != "result" or metric not in _returns_variable:
                held.pop(name)
        held.update(before)


@contextlib.contextmanager
def noted_step(model: keras.Model, *, is_even: bool) -> Iterator[None]:
    """Notes, while a replica's step is traced, what its losses are divided by.

    Args:
        model: The model whose step it is.
        is_even: Whether all replicas are known to have as many samples.
    """
    part = None
    if not is_even:
        context = tf.distribute.get_replica_context()
        samples = local_samples()
        mean = context.all_reduce(
            tf.distribute.ReduceOp.MEAN, tf.identity(samples)
        )
        part = tf.math.divide_no_nan(samples, mean)
    with (
        noting_divisions(part) as noted,
        tf_replicas.noting_results(
            lambda result: noted.of_all.extend(tensors_in(result))
        ),
    ):
        yield
        _check_divided(model, noted)


def outputs_of_all(model: keras.Model, outputs: Any) -> Any:
    """Returns what a step has returned, as a step of one device would.

    Losses are not divided, and results of metrics are those of all replicas,
    where they are what is logged of an epoch.
    """
    noted = divisions()
    if not isinstance(outputs, dict) or noted is None:
        return outputs
    results = list(noted.results)
    leaves = keras.tree.flatten(outputs)
    used = {
        id(leaf): metric
        for leaf in leaves
        for result, metric in results
        if result is leaf
    }
    of_all = {}
    if used and not keras_fit.logs_metrics(model, outputs):
        of_all = _results_of_all(used)
    names = {
        id(value): name
        for name, value in outputs.items()
        if id(value) not in used
    }
    return keras.tree.map_structure(
        lambda leaf: (
            of_all.get(id(leaf), leaf)
            if id(leaf) in used
            else _returned(model, names.get(id(leaf), "a loss"), leaf)
        ),
        outputs,
    )


def _results_of_all(
    metrics: dict[int, keras.metrics.Metric],
) -> dict[int, tf.Tensor]:
    summed = {
        key: metric
        for key, metric in metrics.items()
        if metric.variables
        and all(v.aggregation == "sum" for v in metric.variables)
    }
    if not summed:
        return {}
    totals = iter(
        tf.distribute.get_replica_context().all_reduce(
            tf.distribute.ReduceOp.SUM,
            [
                tf.identity(v.value)
                for m in summed.values()
                for v in m.variables
            ],
        )
    )
    return {
        key: metric.stateless_result([next(totals) for _ in metric.variables])
        for key, metric in summed.items()
    }


def _result(metric: keras.metrics.Metric, result: Any) -> Any:
    """Returns a metric's result as a tensor, and notes whose it is."""
    value = result()
    if any(map(_is_variable, keras.tree.flatten(value))):
        _returns_variable.add(metric)
        value = with_values(value)
    noted = divisions()
    if noted is not None:
        noted.results.append((value, metric))
    return value


def _returned(model: keras.Model, name: str, value: Any) -> Any:
    if not _is_scalar(value):
        return value
    whole = _known(model, name, value)
    part = _part()
    if whole is value or part is None:
        return whole
    return whole * tf.cast(part, whole.dtype)


def _update(
    model: keras.Model,
    metric: keras.metrics.Metric,
    update_state: Any,
    values: Any,
    sample_weight: Any = None,
) -> Any:
    logging({metric.name: values})
    if not _is_scalar(values):
        return update_state(values, sample_weight=sample_weight)
    whole = _known(model, metric.name, values)
    part = _part()
    if isinstance(metric, keras.metrics.Mean):
        weight = part if sample_weight is None else sample_weight
        return update_state(whole, sample_weight=weight)
    if whole is not values:
        context = tf.distribute.get_replica_context()
        whole /= context.num_replicas_in_sync
        whole *= 1 if part is None else tf.cast(part, whole.dtype)
    return update_state(whole, sample_weight=sample_weight)


def with_values(outputs: Any) -> Any:
    """Returns what a step or a metric returns, with variables' values."""
    return keras.tree.map_structure(
        lambda leaf: tf.convert_to_tensor(leaf) if _is_variable(leaf) else leaf,
        outputs,
    )


def _is_variable(value: Any) -> bool:
    return isinstance(
        value, (tf.Variable, keras.Variable, tf.distribute.DistributedValues)
    )


def _known(model: keras.Model, name: str, value: tf.Tensor) -> tf.Tensor:
    whole = undivided(value)
    if whole is not None:
        return whole
    _warn(
        model,
        "What a step logs must be told from what it divides. Received: "
        f"`{name}` of {type(model).__name__}, which may be divided by the "
        "number of replicas, and is logged as it is. Log the loss before it "
        "is divided, or, in a step that is not run eagerly, divide the tensor "
        "itself: `loss / tf.distribute.get_strategy().num_replicas_in_sync`.",
    )
    return value


def _check_divided(model: keras.Model, noted: Divisions) -> None:
    if noted.updates and not noted.asked:
        _warn(
            model,
            "A replica's loss must be divided by the number of replicas. "
            f"Received: a step of {type(model).__name__} which uses no loss of "
            "Keras's, and does not ask for that number: its gradient is too "
            "large by it, unless it was asked for elsewhere. Divide the loss "
            "in the step, by `tf.distribute.get_strategy()."
            "num_replicas_in_sync`.",
        )


def _warn(model: keras.Model, message: str) -> None:
    if model not in _warned:
        _warned.add(model)
        warnings.warn(message, stacklevel=2)


def _part() -> tf.Tensor | None:
    noted = divisions()
    return None if noted is None else noted.part


def _is_scalar(value: Any) -> bool:
    return (
        tf.is_tensor(value)
        and value.shape.rank == 0
        and (value.dtype.is_floating)
    )


def _is_mean_or_sum(metric: keras.metrics.Metric) -> bool:
    known = (keras.metrics.Mean, keras.metrics.Sum)
    return type(metric).update_state in [each.update_state for each in known]
