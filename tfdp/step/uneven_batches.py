"""Steps of Keras, on whatever part of a batch a replica is given.

A last batch of fewer samples than replicas leaves some with none. Kernels for
convolution fail on no rows, and means of no rows are not numbers. Such a
replica computes on one made-up row instead, and forgets it: its gradient
weighs nothing, its state is put back, its predictions are left out.

`train_on_batch` and its like give every replica the whole batch. Each of them
takes its share.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from tfdp.step.graphs import moved_by
from tfdp.step.logged_losses import (
    logs_itself,
    noted_step,
    outputs_of_all,
    with_values,
)
from tfdp.step.parts import logging, looked_at
from tfdp.step.samples import (
    batch_size,
    counted,
    mixing_gradients,
    step_began,
    training,
)
from tfdp.step.waiting import tensors_in
from tfdp.upstream.keras import inspection, keras_fit, keras_models
from tfdp.upstream.tensorflow import tf_replicas

_TENSORS = (tf.Tensor, tf.SparseTensor, tf.RaggedTensor)


def fitted(
    fn: Callable[..., Any],
    *,
    made_from: Callable[..., Any],
    args: tuple[Any, ...],
    replicas_here: int,
) -> Callable[..., Any]:
    """Returns `fn`, able to run on a part of a batch of any size.

    Args:
        fn: What a strategy is about to run.
        made_from: What it was given to run. Unless that is a step of Keras's
            own `fit`, `evaluate` or `predict`, `fn` is returned as it is.
        args: What it will be run on.
        replicas_here: Number of replicas of this worker.
    """
    model = keras_fit.model_of_step(made_from, "test_step")
    if model is None:
        model = keras_fit.model_of_step(made_from, "train_step")
        if model is not None and not _weighs_samples(model):
            return fn
        if model is not None:
            fn = _of_training(fn, model)
    if model is not None:
        fitting = functools.partial(_step, fn, model)
    elif keras_fit.is_predict_step(made_from):
        fitting = functools.partial(_predict, fn)
    else:
        return fn
    is_whole = all(
        each is None or isinstance(each, _TENSORS)
        for each in tf.nest.flatten(args)
    )
    if replicas_here == 1 or not is_whole:
        return fitting

    def on_share(data: Any) -> Any:
        share = _share(data, replicas_here)
        with counted((share,), began=step_began()):
            return fitting(share)

    return on_share


def _of_training(
    fn: Callable[..., Any], model: keras.Model
) -> Callable[..., Any]:
    def step(data: Any) -> Any:
        with training(model), looked_at(model, data):
            outputs = fn(data)
            logging(outputs)
            return outputs

    return step


def _share(data: Any, replicas_here: int) -> Any:
    context = tf.distribute.get_replica_context()
    place = context.replica_id_in_sync_group % replicas_here

    def rows(tensor: Any) -> Any:
        if tensor is None:
            return None
        size = batch_size(tensor)
        here = tf.cast(place, size.dtype)
        start = size * here // replicas_here
        end = size * (here + 1) // replicas_here
        if isinstance(tensor, tf.SparseTensor):
            return _slice(tensor, start, end)
        return tensor[start:end]

    return tf.nest.map_structure(rows, data)


def _slice(
    tensor: tf.SparseTensor, start: tf.Tensor, end: tf.Tensor
) -> tf.SparseTensor:
    # By `tf.sparse.slice` its shape is no longer known.
    rows = tensor.indices[:, 0]
    part = tf.sparse.retain(tensor, (rows >= start) & (rows < end))
    sample = tensor.dense_shape[1:]
    if tensor.shape[1:].is_fully_defined():
        sample = tf.constant(tensor.shape[1:].as_list(), tf.int64)
    first = tf.concat([[start], tf.zeros_like(sample)], 0)
    return tf.SparseTensor(
        part.indices - first,
        part.values,
        tf.concat([[end - start], sample], 0),
    )


def _step(fn: Callable[..., Any], model: keras.Model, data: Any) -> Any:
    if not logs_itself(model):
        return with_values(_on_any_size(fn, model, data))
    is_even = _possibly_zero_size(data) is None
    with noted_step(model, is_even=is_even):
        outputs = with_values(_on_any_size(fn, model, data))
        return outputs_of_all(model, outputs)


def _on_any_size(fn: Callable[..., Any], model: keras.Model, data: Any) -> Any:
    size = _possibly_zero_size(data)
    with contextlib.ExitStack() as stack:
        if _reduces_inside(model):
            stack.enter_context(mixing_gradients())
        if size is None:
            return fn(data)
        if _reduces_inside(model):
            weight = tf.cast(size > 0, tf.float32)
            stack.enter_context(keras_models.weighing_statistics(weight))
        state = _state(model)
        before = [tf.identity(variable) for variable, _ in state]
        filled = _never_empty(data, size)
        with _noting_moved(filled) as is_moved:
            outputs = fn(filled)

    def put_back() -> tf.Tensor:
        for (variable, is_of_samples), value in zip(state, before, strict=True):
            if is_of_samples or is_moved(variable):
                variable.assign(value)
        return tf.constant(0)

    tf.cond(tf.equal(size, 0), put_back, lambda: tf.constant(0))
    return outputs


@contextlib.contextmanager
def _noting_moved(data: Any) -> Iterator[Callable[[tf.Variable], bool]]:
    """Notes which variables are moved by samples, and not by each step.

    What counts steps, or is made of the samples of all replicas, moves on a
    replica without samples, too. Run eagerly, nothing shows which do.
    """
    if tf.executing_eagerly():
        yield lambda variable: True
        return
    graph = tf.compat.v1.get_default_graph()
    begin = len(graph.get_operations())
    sources = {each.ref() for each in tensors_in(data)}
    of_all: set[Any] = set()

    def note(result: Any) -> None:
        of_all.update(each.ref() for each in tensors_in(result))

    @functools.cache
    def moved() -> set[int]:
        return moved_by(sources, of_all, graph.get_operations()[begin:])

    with tf_replicas.noting_results(note):
        yield lambda variable: id(variable.handle) in moved()


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
    leaves = [leaf for leaf in tf.nest.flatten(data) if leaf is not None]
    if not all(isinstance(x, _TENSORS) and x.shape.rank for x in leaves):
        return None
    if leaves[0].shape[0]:
        return None
    return tf.cast(batch_size(leaves[0]), tf.int32)


def _never_empty(data: Any, size: tf.Tensor) -> Any:
    leaves = [leaf for leaf in tf.nest.flatten(data) if leaf is not None]
    chosen = tf.cond(
        tf.equal(size, 0),
        lambda: [_one_row(leaf) for leaf in leaves],
        lambda: leaves,
    )
    if not tf.executing_eagerly():
        for tensor, leaf in zip(chosen, leaves, strict=True):
            if isinstance(tensor, tf.Tensor):
                tensor.set_shape([None, *leaf.shape[1:]])
    present = iter(chosen)
    return tf.nest.map_structure(
        lambda leaf: None if leaf is None else next(present), data
    )


def _one_row(leaf: Any) -> Any:
    if isinstance(leaf, tf.SparseTensor):
        # It holds nothing; so does a row of zeros.
        shape = tf.maximum(leaf.dense_shape, 1)
        return tf.SparseTensor(leaf.indices, leaf.values, shape)
    if isinstance(leaf, tf.RaggedTensor):
        # Out of a dataset, one of no rows has lost its axes that are not.
        axes = [axis or 1 for axis in leaf.shape[1 + leaf.ragged_rank :]]
        splits = tf.constant([0, 1], leaf.row_splits.dtype)
        return tf.RaggedTensor.from_nested_row_splits(
            tf.zeros([1, *axes], leaf.dtype), [splits] * leaf.ragged_rank
        )
    return tf.zeros(tf.maximum(tf.shape(leaf), 1), leaf.dtype)


def _weighs_samples(model: keras.Model) -> bool:
    """Whether a replica without samples has no say in the updates."""
    optimizers = inspection.optimizers(model)
    return bool(optimizers) and all(
        getattr(optimizer, "weighs_samples", False) for optimizer in optimizers
    )


def _reduces_inside(model: keras.Model) -> bool:
    return any(map(inspection.synchronizes, inspection.layers(model)))


def _state(model: keras.Model) -> list[tuple[tf.Variable, bool]]:
    """Returns what samples may move, each with whether they surely do."""
    layers = inspection.layers(model)
    # What is synchronized has not seen the row, and agrees on all replicas.
    agreed = {
        id(weight)
        for layer in layers
        if inspection.synchronizes(layer)
        for weight in layer.weights
    }
    of_samples = [v for metric in model.metrics for v in metric.variables]
    for layer in layers:
        if type(layer) is keras.layers.BatchNormalization and layer.trainable:
            of_samples += layer.non_trainable_variables
    unique = {id(v): (v.value, False) for v in inspection.statistics(model)}
    unique |= {id(v): (v.value, True) for v in of_samples}
    return [each for key, each in unique.items() if key not in agreed]
