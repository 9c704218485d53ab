"""The only doorway to private names of Keras.

`tests/test_contracts.py` says which of them moved.
"""

import sys
import types
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src import backend as _backend
from keras.src.losses import loss as _loss
from keras.src.losses.losses import LossFunctionWrapper as _LossFunctionWrapper
from keras.src.trainers.data_adapters import array_slicing
from keras.src.trainers.data_adapters.array_data_adapter import (
    ArrayDataAdapter as _ArrayDataAdapter,
)
from keras.src.trainers.data_adapters.generator_data_adapter import (
    GeneratorDataAdapter as _GeneratorDataAdapter,
)
from keras.src.trainers.data_adapters.py_dataset_adapter import (
    PyDatasetAdapter as _PyDatasetAdapter,
)
from keras.src.trainers.epoch_iterator import EpochIterator as _EpochIterator


def is_symbolic_build(depth: int = 1) -> bool:
    """Whether a caller is Keras, asking for the shape of one batch.

    Before the first step Keras reduces a batch of data over the replicas, of
    which it then uses shapes and types alone. Nothing in the values tells that
    call from a user's own.

    Args:
        depth: How many frames above the caller of this function to look.
    """
    return sys._getframe(depth + 1).f_code.co_name == "_maybe_symbolic_build"


def callbacks_in_use(depth: int = 1) -> list[keras.callbacks.Callback] | None:
    """Returns all callbacks of the `fit` that is calling a callback's hook.

    Args:
        depth: How many frames above the caller of this function to look.

    Returns:
        The callbacks in their order, or `None` where the hook was not called
        by a `keras.callbacks.CallbackList`.
    """
    caller = sys._getframe(depth + 1).f_locals.get("self")
    if isinstance(caller, keras.callbacks.CallbackList):
        return list(caller.callbacks)
    return None


def change_callbacks(
    change: Callable[
        [list[keras.callbacks.Callback]], list[keras.callbacks.Callback]
    ],
    depth: int = 1,
) -> None:
    """Changes the callbacks of the `fit` that is calling a hook.

    Args:
        change: Returns the new ones, given the old; those up to the one whose
            hook is called must stay.
        depth: How many frames above the caller of this function to look.
    """
    caller = sys._getframe(depth + 1).f_locals.get("self")
    if isinstance(caller, keras.callbacks.CallbackList):
        before = list(caller.callbacks)
        # In place: the list is being gone through.
        caller.callbacks[:] = change(before)
        for callback in caller.callbacks:
            if callback not in before:
                callback.set_params(caller.params)
                callback.set_model(caller.model)


def fit_under_way(frame: types.FrameType | None = None) -> Any:
    """Returns the `EpochIterator` of the `fit` that is running, or `None`.

    Args:
        frame: Where to begin to look, upwards. Defaults to the caller.
    """
    frame = frame or sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "fit":
            found = frame.f_locals.get("epoch_iterator")
            if isinstance(found, _EpochIterator):
                return found
        frame = frame.f_back
    return None


def reshuffled_arrays(seed: int, depth: int = 1) -> tf.data.Dataset | None:
    """Returns the arrays that a calling `fit` wants shuffled, as a dataset.

    Keras shuffles arrays by an operation that is either different on every
    worker or, once TensorFlow has a seed, the same in every epoch.

    Args:
        seed: Seed of the order, which changes from epoch to epoch.
        depth: How many frames above the caller of this function to look for
            the `EpochIterator` that holds the arrays.

    Returns:
        A batched dataset, or `None` where the caller holds no arrays, or
        wants no shuffling over all samples, or the arrays are sparse.
    """
    caller = sys._getframe(depth + 1).f_locals.get("self")
    adapter = getattr(caller, "data_adapter", None)
    if (
        not isinstance(adapter, _ArrayDataAdapter)
        or adapter._shuffle is not True
    ):
        return None
    arrays = keras.tree.lists_to_tuples(
        array_slicing.convert_to_sliceable(
            adapter._inputs, target_backend="tensorflow"
        )
    )
    dense = (np.ndarray, tf.Tensor)
    if not all(isinstance(a, dense) for a in keras.tree.flatten(arrays)):
        return None
    order = (
        tf.data.Dataset.range(adapter._num_samples)
        .shuffle(adapter._num_samples, seed=seed)
        .batch(adapter.batch_size)
    )
    return tf.data.Dataset.zip(
        order, tf.data.Dataset.from_tensors(arrays).repeat()
    ).map(
        lambda indices, whole: keras.tree.map_structure(
            lambda array: tf.gather(array, indices), whole
        ),
        num_parallel_calls=tf.data.AUTOTUNE,
    )


def model_of_step(fn: Callable[..., Any], name: str) -> keras.Model | None:
    """Returns the model whose step this is, if any.

    Args:
        fn: What was given to `Strategy.run`.
        name: `"train_step"` or `"test_step"`.
    """
    model = getattr(fn, "__self__", None)
    is_step = getattr(fn, "__name__", None) == name
    return model if is_step and isinstance(model, keras.Model) else None


def is_predict_step(fn: Callable[..., Any]) -> bool:
    """Whether this is what Keras's `predict` gives to `Strategy.run`."""
    name = getattr(fn, "__qualname__", "")
    return name.endswith("make_predict_function.<locals>.one_step_on_data")


def build(model: keras.Model, batch: tuple[Any, Any, Any]) -> None:
    """Builds a compiled model, its loss and metrics, unless they are.

    Args:
        model: A compiled model.
        batch: Inputs, labels and sample weights, or `None` for the latter.
    """
    model._symbolic_build(data_batch=batch)


def outputs_of(model: keras.Model, x: Any) -> Any:
    """Calls a model as outside of training, whatever its `call` takes."""
    if model._call_has_training_arg:
        return model(x, training=False)
    return model(x)


def seed_generator_under_construction() -> keras.random.SeedGenerator | None:
    """Returns the seed generator whose state is being created, if any."""
    constructor = keras.random.SeedGenerator.__init__.__code__
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code is constructor:
            return frame.f_locals["self"]
        frame = frame.f_back
    return None


def own_non_trainable_weights(
    layer: keras.layers.Layer,
) -> list[keras.Variable]:
    """Returns a layer's own weights without gradient, no seeds or metrics."""
    return list(layer._non_trainable_variables)


def as_loss(identifier: Any) -> keras.losses.Loss:
    """Returns the loss object that `compile` would make of its argument.

    Raises:
        ValueError: If Keras knows no such loss.
    """
    loss = keras.losses.get(identifier)
    if isinstance(loss, keras.losses.Loss):
        return loss
    name = getattr(loss, "__name__", type(loss).__name__)
    # A lambda has a name that is none.
    return _LossFunctionWrapper(
        loss, name=name if name.isidentifier() else None
    )


def mask_of(tensors: Any) -> tf.Tensor | None:
    """Returns the mask that Keras's layers have attached, if any."""
    return _backend.get_keras_mask(tensors)


def weighted_sum(
    values: tf.Tensor,
    sample_weight: tf.Tensor | None,
    mask: tf.Tensor | None,
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Adds up values as Keras's losses do before they divide.

    Returns:
        The sum, and the weights that mask and samples make together, or `None`
        where there are neither.
    """
    total = _loss.reduce_weighted_values(
        values, sample_weight, mask, reduction="sum", dtype=values.dtype
    )
    weights = _loss.apply_mask(
        sample_weight, mask, dtype=values.dtype, reduction="sum"
    )
    if weights is not None:
        _, weights = _loss.squeeze_or_expand_to_same_rank(
            values, tf.cast(weights, values.dtype)
        )
    return total, weights


def all_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Returns the layers of a model, those inside of layers too."""
    return list(model._flatten_layers(include_self=False, recursive=True))


def given_rate(optimizer: keras.optimizers.Optimizer) -> Any:
    """Returns an optimizer's rate: a float, or the schedule or function."""
    rate = optimizer._learning_rate
    if isinstance(rate, keras.Variable):
        return float(rate.numpy())
    return rate


def copy_of(
    optimizer: keras.optimizers.Optimizer,
    *,
    kind: type[keras.optimizers.Optimizer] | None = None,
    learning_rate: Any = None,
) -> keras.optimizers.Optimizer:
    """Copies an optimizer that consists of one and was not built yet.

    Args:
        optimizer: What to copy.
        kind: Class of the copy. Defaults to that of the optimizer.
        learning_rate: Rate of the copy. Defaults to that of the optimizer, be
            it a schedule or a function the same object.

    Returns:
        A new optimizer of the same configuration and exclusions from weight
        decay.
    """
    with warnings.catch_warnings():
        # Of a rate that is a lambda; it is handed over as it is.
        warnings.simplefilter("ignore")
        config = optimizer.get_config()
    if learning_rate is None and callable(given_rate(optimizer)):
        learning_rate = given_rate(optimizer)
    if learning_rate is not None:
        config["learning_rate"] = learning_rate
    copy = (kind or type(optimizer)).from_config(config)
    for name in (
        "_exclude_from_weight_decay",
        "_exclude_from_weight_decay_pattern",
    ):
        if hasattr(optimizer, name):
            setattr(copy, name, getattr(optimizer, name))
    return copy


def copy_that_takes_reduced_gradients(
    optimizer: keras.optimizers.Optimizer,
) -> keras.optimizers.Optimizer:
    """Copies an optimizer; the copy sums no gradients over replicas.

    Nor does it overwrite weights by their moving average, which Keras can do
    in cross-replica context only: see `overwrite_with_average`.

    Args:
        optimizer: An optimizer that was not built yet.

    Returns:
        A new optimizer of the same configuration, learning rate object and
        exclusions from weight decay, whose whole update path (clipping,
        decay, update, moving average, constraints) is Keras's own.
    """
    if is_multi_optimizer(optimizer):
        return _copy_of_several(optimizer)
    copy = copy_of(optimizer)
    copy._all_reduce_sum_gradients = list
    copy._overwrite_model_variables_with_average_value = lambda variables: None
    return copy


def is_multi_optimizer(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether this is a `keras.optimizers.MultiOptimizer`, new in Keras 3.13.

    It has other optimizers for different variables.
    """
    return type(optimizer).__name__ == "MultiOptimizer"


def place_of(optimizer: keras.optimizers.Optimizer, variable: Any) -> int:
    """Returns the place of a variable among those an optimizer trains."""
    return optimizer._get_variable_index(variable)


def trained_variables(
    optimizer: keras.optimizers.Optimizer,
) -> list[keras.Variable]:
    """Returns the variables that an optimizer was built for."""
    return list(optimizer._trainable_variables)


def overwrite_with_average(optimizer: keras.optimizers.Optimizer) -> None:
    """Gives variables the moving averages that an optimizer keeps of them.

    Args:
        optimizer: An optimizer that was copied by this module.
    """
    type(optimizer)._overwrite_model_variables_with_average_value(
        optimizer, trained_variables(optimizer)
    )


def with_missing_gradients(
    optimizer: keras.optimizers.Optimizer,
    gradients: Sequence[Any],
    variables: Sequence[keras.Variable],
) -> tuple[list[Any], list[keras.Variable]]:
    """Fills in `None` for those of the optimizer's variables that are missing.

    A `MultiOptimizer` asks for all of them.
    """
    given = {
        optimizer._get_variable_index(variable): gradient
        for gradient, variable in zip(gradients, variables, strict=True)
    }
    everything = trained_variables(optimizer)
    return [given.get(i) for i in range(len(everything))], everything


def _copy_of_several(
    optimizer: keras.optimizers.Optimizer,
) -> keras.optimizers.Optimizer:
    copies: dict[int, tuple[Any, Any]] = {}

    def copied(original: keras.optimizers.Optimizer) -> Any:
        if id(original) not in copies:
            copy = copy_that_takes_reduced_gradients(original)
            copies[id(original)] = original, copy
        return copies[id(original)][1]

    chosen = optimizer._optimizer_map
    if isinstance(chosen, keras.optimizers.OptimizerMap):
        copied_map = keras.optimizers.OptimizerMap(
            copied(chosen.default_optimizer),
            {key: copied(chosen[key]) for key in chosen},
        )
        return type(optimizer)(copied_map, name=optimizer.name)
    copy = type(optimizer)(
        lambda variable: copied(chosen(variable)), name=optimizer.name
    )
    copy.get_config = optimizer.get_config
    return copy


def distributed_dataset(epoch_iterator: Any) -> Any:
    """Returns the distributed dataset that an `EpochIterator` of `fit` has."""
    return epoch_iterator._distributed_dataset


def shuffles_in_python(epoch_iterator: Any) -> bool:
    """Whether Python code decides on the order of samples of a `fit`."""
    adapter = epoch_iterator.data_adapter
    if isinstance(adapter, _PyDatasetAdapter):
        return bool(adapter.shuffle)
    return isinstance(adapter, _GeneratorDataAdapter)


def begin_at_epoch(model: keras.Model, epoch: int | None) -> None:
    """Has a `fit` begin at an epoch.

    Args:
        model: The model that is fitted, from `on_train_begin` of a callback.
        epoch: Index of the epoch; `None` for what `fit` is given, which is to
            be said before the next `fit`.
    """
    model._initial_epoch = epoch
