"""Steps of Keras on a replica that has no samples.

A last batch of fewer samples than replicas leaves some with none. Kernels for
convolution fail on no rows, and means of no rows are not numbers. Such a
replica computes on one made-up row instead, and forgets it: its gradient
weighs nothing, its state is put back, its predictions are left out.
"""

import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfdp import _keras, inspection


def surviving_no_samples(
    fn: Callable[..., Any], *, made_from: Callable[..., Any]
) -> Callable[..., Any]:
    """Returns `fn`, able to run on a replica with no samples.

    Args:
        fn: What a strategy is about to run.
        made_from: What it was given to run. Unless that is a step of Keras's
            own `fit`, `evaluate` or `predict`, `fn` is returned as it is.
    """
    tested = _keras.model_of_step(made_from, "test_step")
    if tested is not None:
        return functools.partial(_step, fn, tested)
    trained = _keras.model_of_step(made_from, "train_step")
    if trained is not None and _weighs_samples(trained):
        return functools.partial(_step, fn, trained)
    if _keras.is_predict_step(made_from):
        return functools.partial(_predict, fn)
    return fn


def _step(fn: Callable[..., Any], model: keras.Model, data: Any) -> Any:
    size = _possibly_zero_size(data)
    if size is None:
        return fn(data)
    if _reduces_inside(model):
        # Its statistics would count a made-up row.
        with tf.control_dependencies([_assert_not_empty(model, size)]):
            return fn(tf.nest.map_structure(tf.identity, data))
    state = _state(model)
    before = [tf.identity(variable) for variable in state]
    outputs = fn(_never_empty(data, size))

    def put_back() -> tf.Tensor:
        for variable, value in zip(state, before, strict=True):
            variable.assign(value)
        return tf.constant(0)

    tf.cond(tf.equal(size, 0), put_back, lambda: tf.constant(0))
    return outputs


def _predict(fn: Callable[..., Any], data: Any) -> Any:
    size = _possibly_zero_size(data)
    if size is None:
        return fn(data)
    outputs = fn(_never_empty(data, size))
    return tf.cond(
        tf.equal(size, 0),
        lambda: tf.nest.map_structure(lambda t: t[:0], outputs),
        lambda: outputs,
    )


def _possibly_zero_size(data: Any) -> tf.Tensor | None:
    leaves = tf.nest.flatten(data)
    if not all(isinstance(x, tf.Tensor) and x.shape.rank for x in leaves):
        return None
    return None if leaves[0].shape[0] else tf.shape(leaves[0])[0]


def _never_empty(data: Any, size: tf.Tensor) -> Any:
    def one_row() -> list[tf.Tensor]:
        return [
            tf.zeros(tf.maximum(tf.shape(leaf), 1), leaf.dtype)
            for leaf in leaves
        ]

    leaves = tf.nest.flatten(data)
    chosen = tf.cond(tf.equal(size, 0), one_row, lambda: leaves)
    if not tf.executing_eagerly():
        for tensor, leaf in zip(chosen, leaves, strict=True):
            tensor.set_shape([None, *leaf.shape[1:]])
    return tf.nest.pack_sequence_as(data, chosen)


def _weighs_samples(model: keras.Model) -> bool:
    """Whether a replica without samples has no say in the updates."""
    optimizers = inspection.optimizers(model)
    return bool(optimizers) and all(
        getattr(optimizer, "weighs_samples", False) for optimizer in optimizers
    )


def _assert_not_empty(model: keras.Model, size: tf.Tensor) -> tf.Operation:
    convolves = any(
        "Conv" in type(layer).__name__ for layer in inspection.layers(model)
    )
    return tf.debugging.Assert(
        tf.logical_or(size > 0, not convolves),
        [
            "Each replica must be given a sample, where a model has both "
            "convolutions and synchronized BatchNormalization. Received: a "
            "batch of fewer samples than replicas. Drop it "
            "(`batch(..., drop_remainder=True)`), choose another batch size, "
            "or use synchronized=False."
        ],
    )


def _reduces_inside(model: keras.Model) -> bool:
    return any(map(inspection.synchronizes, inspection.layers(model)))


def _state(model: keras.Model) -> list[tf.Variable]:
    metrics = [v for metric in model.metrics for v in metric.variables]
    unique = {id(v): v.value for v in (*metrics, *inspection.statistics(model))}
    return list(unique.values())
