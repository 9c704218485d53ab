"""What Keras keeps inside of optimizers, and copies of them.

A doorway to private names of Keras, each of which has a contract in
`tests/upstream/test_keras_optimizers.py`.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import keras


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
