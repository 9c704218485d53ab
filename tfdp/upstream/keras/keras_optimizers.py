"""What Keras keeps inside of optimizers, and copies of them.

A doorway to private names of Keras, each of which has a contract in
`tests/upstream/test_keras_optimizers.py`.
"""

import functools
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from tfdp.upstream import attributes
from tfdp.upstream.private import Member
from tfdp.upstream.tensorflow.tf_replicas import without_strategy

_GRADIENTS = "DistributedOptimizer does not know which gradient is whose"
_learning_rate = Member(
    "_learning_rate",
    serves="a copied optimizer would lose the schedule that it was given",
)
_sum_over_replicas = Member(
    "_all_reduce_sum_gradients",
    serves="DistributedOptimizer's inner optimizer would sum gradients over "
    "the replicas a second time",
)
_overwrite = Member(
    "_overwrite_model_variables_with_average_value",
    serves="weights cannot be overwritten by their averages",
)
_get_variable_index = Member("_get_variable_index", serves=_GRADIENTS)
_trainable_variables = Member("_trainable_variables", serves=_GRADIENTS)
_filter_empty_gradients = Member(
    "_filter_empty_gradients",
    serves="DistributedOptimizer would accumulate gradients that are None",
)
_use_weight_decay = Member(
    "_use_weight_decay",
    serves="LARS would decay variables that are excluded from it",
)
_moving_averages = Member(
    "_model_variables_moving_average",
    serves="LocalSGD could not tell averages of weights from momenta",
)
_clip_gradients = Member(
    "_clip_gradients",
    serves="ShardedState cannot clip by the norm of all gradients",
)
_variables = Member(
    "_variables",
    serves="ShardedState cannot save the slots of its owners",
)
_path = Member(
    "_path",
    serves="ShardedState cannot name slots as Keras does",
)
_optimizer_map = Member(
    "_optimizer_map",
    serves="the optimizers inside of a MultiOptimizer cannot be copied",
)


def given_rate(optimizer: keras.optimizers.Optimizer) -> Any:
    """Returns an optimizer's rate: a float, or the schedule or function."""
    rate = _learning_rate.of(optimizer)
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
        A new optimizer of the same configuration. What that leaves out it has
        from the original, with optimizers among it copied likewise.

    Raises:
        TypeError: If it cannot have that.
    """
    rate = given_rate(optimizer) if learning_rate is None else learning_rate
    kind = kind or type(optimizer)
    copy = _from_config(optimizer, kind, rate)
    if copy is None:
        # What Keras trains with, and only could not save.
        copy = object.__new__(kind)
        keras.optimizers.Optimizer.__init__(copy, rate, name=optimizer.name)
    if not attributes.are_same(given_rate(copy), rate, _pair(copy, optimizer)):
        copy.learning_rate = rate
    _hand_over(optimizer, copy)
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

    Raises:
        TypeError: As `copy_of` does.
    """
    if is_multi_optimizer(optimizer):
        return _copy_of_several(optimizer)
    copy = copy_of(optimizer)
    for each in (copy, *_optimizers_inside(copy)):
        _sum_over_replicas.replace(each, list)
        if each.use_ema:
            _overwrite.replace(each, lambda variables: None)
    return copy


def is_multi_optimizer(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether this is a `keras.optimizers.MultiOptimizer`, new in Keras 3.13.

    It has other optimizers for different variables.
    """
    return type(optimizer).__name__ == "MultiOptimizer"


def place_of(optimizer: keras.optimizers.Optimizer, variable: Any) -> int:
    """Returns the place of a variable among those an optimizer trains.

    Raises:
        ValueError: If it is none of them.
    """
    try:
        return _get_variable_index.of(optimizer)(variable)
    except KeyError:
        raise ValueError(
            "An optimizer updates the variables that it was built for. "
            f"Received: {_name_of(variable)!r}, which is none of "
            f"{len(trained_variables(optimizer))}. Build it by "
            "`optimizer.build(model.trainable_variables)` once they are all "
            "there, or use a new optimizer."
        ) from None


def _name_of(variable: Any) -> str:
    return getattr(variable, "path", variable.name)


def trained_variables(
    optimizer: keras.optimizers.Optimizer,
) -> list[keras.Variable]:
    """Returns the variables that an optimizer was built for."""
    return list(_trainable_variables.of(optimizer))


def decays(optimizer: keras.optimizers.Optimizer, variable: Any) -> bool:
    """Whether a built optimizer was not told to leave a variable undecayed."""
    return bool(_use_weight_decay.of(optimizer)(variable))


def with_gradients(
    optimizer: keras.optimizers.Optimizer,
    gradients: Sequence[Any],
    variables: Sequence[keras.Variable],
) -> tuple[list[Any], list[keras.Variable]]:
    """Leaves out what has no gradient, with Keras's warning.

    Raises:
        ValueError: If nothing has one.
    """
    return _filter_empty_gradients.of(optimizer)(gradients, variables)


def overwrite_with_average(optimizer: keras.optimizers.Optimizer) -> None:
    """Gives variables the moving averages that an optimizer keeps of them.

    Args:
        optimizer: An optimizer that was copied by this module.
    """
    _overwrite.of(type(optimizer))(optimizer, trained_variables(optimizer))


def moving_averages(
    optimizer: keras.optimizers.Optimizer,
) -> list[keras.Variable]:
    """Returns the averages that a built optimizer keeps of weights, if any."""
    return list(_moving_averages.of(optimizer)) if optimizer.use_ema else []


def clipped(
    optimizer: keras.optimizers.Optimizer, gradients: Sequence[Any]
) -> list[Any]:
    """Returns gradients as an optimizer clips them, by the norm of all."""
    return list(_clip_gradients.of(optimizer)(list(gradients)))


def hold(
    optimizer: keras.optimizers.Optimizer, variables: Sequence[Any]
) -> None:
    """Has an optimizer save variables after its own, which others made.

    Args:
        optimizer: The optimizer.
        variables: What to save: has `numpy`, `assign` and `shape`.
    """
    _variables.of(optimizer).extend(variables)


def stand_in(variable: keras.Variable, value: Any) -> keras.Variable:
    """Returns a variable that an optimizer cannot tell from another.

    Args:
        variable: The other.
        value: Its value: a `tf.Variable` to share, or `None` for zeros.
    """
    made = keras.Variable(
        "zeros" if value is None else value,
        shape=tuple(variable.shape) if value is None else None,
        dtype=variable.dtype,
        trainable=True,
        name=variable.name,
    )
    name_as(made, variable.path)
    made.constraint = variable.constraint
    if getattr(variable, "overwrite_with_gradient", False):
        made.overwrite_with_gradient = True
    return made


def name_as(variable: keras.Variable, path: str) -> None:
    """Gives a variable the path of another, which slots are named by."""
    _path.replace(variable, path)


def with_missing_gradients(
    optimizer: keras.optimizers.Optimizer,
    gradients: Sequence[Any],
    variables: Sequence[keras.Variable],
) -> tuple[list[Any], list[keras.Variable]]:
    """Fills in `None` for those of the optimizer's variables that are missing.

    A `MultiOptimizer` asks for all of them.
    """
    given = {
        place_of(optimizer, variable): gradient
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
            new = copy_that_takes_reduced_gradients(original)
            copies[id(original)] = original, new
        return copies[id(original)][1]

    chosen = _optimizer_map.of(optimizer)
    if isinstance(chosen, keras.optimizers.OptimizerMap):
        copied_map = keras.optimizers.OptimizerMap(
            copied(chosen.default_optimizer),
            {key: copied(chosen[key]) for key in chosen},
        )
        return type(optimizer)(copied_map, name=optimizer.name)
    several = type(optimizer)(
        lambda variable: copied(chosen(variable)), name=optimizer.name
    )
    several.get_config = optimizer.get_config
    return several


def _from_config(
    optimizer: keras.optimizers.Optimizer,
    kind: type[keras.optimizers.Optimizer],
    rate: Any,
) -> keras.optimizers.Optimizer | None:
    """Copies an optimizer as Keras does; `None` where its class cannot."""
    try:
        with warnings.catch_warnings():
            # Of a rate that is a lambda; it is handed over as it is.
            warnings.simplefilter("ignore")
            config = optimizer.get_config()
        if "learning_rate" in config or callable(rate):
            config["learning_rate"] = rate
        return kind.from_config(config)
    except Exception:
        return None


def _hand_over(
    optimizer: keras.optimizers.Optimizer, copy: keras.optimizers.Optimizer
) -> None:
    """Gives a copy what its configuration has lost."""
    missing = object()
    for name, value in vars(optimizer).items():
        held = vars(copy).get(name, missing)
        if name in _kept_by_keras() or attributes.are_same(
            value, held, _pair(optimizer, copy)
        ):
            continue
        if isinstance(value, keras.Variable) and held is not missing:
            held.assign(value.numpy())
        elif attributes.refers_to(value, optimizer):
            raise TypeError(
                "An optimizer is copied, and must say in `get_config` what "
                f"its constructor was given. Received: "
                f"{type(optimizer).__name__}, whose copy would lose `{name}`, "
                "which refers to the original. Write `get_config` so that "
                f"{type(optimizer).__name__}(**optimizer.get_config()) is the "
                "same optimizer: {**super().get_config(), 'argument': "
                "self.argument}."
            )
        else:
            value = attributes.replaced(
                value, copy_of, keras.optimizers.Optimizer
            )
            setattr(copy, name, value)


def lost_by_configuration(
    optimizer: keras.optimizers.Optimizer, copy: keras.optimizers.Optimizer
) -> list[str]:
    """Returns what an optimizer has that one of its configuration has not.

    Args:
        optimizer: An optimizer.
        copy: Another, made of what `get_config` of the first has returned.

    Returns:
        Names of attributes that the constructor has made, without exclusions
        from weight decay.
    """
    return [
        name
        for name, value in vars(copy).items()
        if name not in _kept_by_keras()
        and name != "built"
        and not name.startswith("_exclude_from_weight_decay")
        and (name == _learning_rate.name or not _holds_variables(value))
        and not attributes.are_same(
            vars(optimizer).get(name), value, _pair(optimizer, copy)
        )
    ]


def _holds_variables(value: Any) -> bool:
    found: list[keras.Variable] = []
    attributes.replaced(value, found.append, keras.Variable)
    return bool(found)


@functools.cache
def _kept_by_keras() -> frozenset[str]:
    """Names of what every optimizer makes anew: variables, and lists."""
    # Its variables are nobody's: workers need not meet for them.
    made = without_strategy(lambda: vars(keras.optimizers.Optimizer(0.0)))
    return frozenset(
        name for name, value in made.items() if not attributes.is_plain(value)
    )


def _pair(*both: Any) -> set[tuple[int, int]]:
    return {(id(both[0]), id(both[1]))}


def _optimizers_inside(
    optimizer: keras.optimizers.Optimizer,
) -> Iterator[keras.optimizers.Optimizer]:
    found: list[keras.optimizers.Optimizer] = []
    for name, value in vars(optimizer).items():
        if name not in _kept_by_keras():
            attributes.replaced(value, found.append, keras.optimizers.Optimizer)
    for each in found:
        yield each
        yield from _optimizers_inside(each)
