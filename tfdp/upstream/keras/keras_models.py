"""What Keras keeps inside of models and layers.

A doorway to private names of Keras, each of which has a contract in
`tests/upstream/test_keras_models.py`.
"""

import contextlib
import sys
import types
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import tensorflow as tf

from tfdp.upstream.private import Member, Name, optional

_symbolic_build = Member(
    "_symbolic_build", serves="an audit with data cannot build a model"
)
_call_has_training_arg = Member(
    "_call_has_training_arg",
    serves="an audit with data does not know how to call a model",
)
_non_trainable_variables = Member(
    "_non_trainable_variables",
    serves="the statistics of BatchNormalization would not be averaged over "
    "replicas",
)
_flatten_layers = Member(
    "_flatten_layers", serves="layers inside of layers would be overlooked"
)
_AUDITED = "an audit of one worker would change the losses of all"
_user_loss = Member("_user_loss", serves=_AUDITED)
_user_loss_weights = Member("_user_loss_weights", serves=_AUDITED)
_value = Member("_value", serves="a `train_step` cannot be tried in an audit")
_distribute_strategy = Member(
    "_distribute_strategy", serves="a `train_step` cannot be tried in an audit"
)
_METRICS = "metrics of a whole batch are not found"
_compile_metrics = Member("_compile_metrics", serves=_METRICS)
_user_metrics = Member("_user_metrics", serves=_METRICS)
_user_weighted_metrics = Member("_user_weighted_metrics", serves=_METRICS)
_SEEDS = "`keras.random` without a seed draws other numbers after a resume"
_global_attribute = Name(
    "keras.src.backend.common.global_state.get_global_attribute", serves=_SEEDS
)
_global_seed_generator = Name(
    "keras.src.random.seed_generator.global_seed_generator", serves=_SEEDS
)
_seed_generators = Member(
    "_seed_generators",
    serves="random layers that a step builds draw the same numbers on every "
    "replica",
)


def compiled_metrics(model: keras.Model) -> list[Any]:
    """Returns what a model was given to `compile` as metrics, one by one."""
    given: list[Any] = []
    with optional():
        compiled = _compile_metrics.of(model)
        if compiled is not None:
            given = [
                _user_metrics.of(compiled),
                _user_weighted_metrics.of(compiled),
            ]
    return [each for each in keras.tree.flatten(given) if each is not None]


def build(model: keras.Model, batch: tuple[Any, Any, Any]) -> None:
    """Builds a compiled model, its loss and metrics, unless they are.

    Args:
        model: A compiled model.
        batch: Inputs, labels and sample weights, or `None` for the latter.
    """
    _symbolic_build.of(model)(data_batch=batch)


def is_built(model: keras.Model) -> bool:
    """Whether a model, its layers, and what it was compiled with are built."""
    parts = [
        *_flatten_layers.of(model)(),
        getattr(model, "_compile_loss", None),
        getattr(model, "_compile_metrics", None),
    ]
    return all(part is None or part.built for part in parts)


def has_variables(model: keras.Model) -> bool:
    """Whether a model and its layers have made all their variables."""
    return all(layer.built for layer in _flatten_layers.of(model)())


@contextlib.contextmanager
def loss_of_its_own(model: keras.Model) -> Iterator[None]:
    """Gives a model another copy of what it was compiled with as a loss.

    What that makes when it is built is gone afterwards.
    """
    held = vars(model)
    compiled = held.get("_compile_loss")
    if compiled is not None:
        held["_compile_loss"] = type(compiled)(
            _user_loss.of(compiled),
            _user_loss_weights.of(compiled),
            compiled.reduction,
            compiled.output_names,
        )
    try:
        yield
    finally:
        if compiled is not None:
            held["_compile_loss"] = compiled


@contextlib.contextmanager
def with_copies(
    model: keras.Model, variables: Iterable[keras.Variable]
) -> Iterator[list[tf.Variable]]:
    """Has variables hold copies of their values, of no strategy.

    Args:
        model: Whose variables they are.
        variables: What may be changed while the block runs.
    """
    own = model.distribute_strategy
    known = {id(variable): variable for variable in variables}
    before = {key: _value.of(each) for key, each in known.items()}
    copies = {
        key: tf.Variable(
            # Of this worker: the others need not be here.
            own.experimental_local_results(value)[0].numpy(),
            dtype=value.dtype,
            trainable=value.trainable,
        )
        for key, value in before.items()
    }
    try:
        for key, copy in copies.items():
            _value.replace(known[key], copy)
        yield list(copies.values())
    finally:
        for key, value in before.items():
            _value.replace(known[key], value)


@contextlib.contextmanager
def lent_to(
    model: keras.Model, strategy: tf.distribute.Strategy
) -> Iterator[None]:
    """Has a model say that it is of another strategy."""
    own = _distribute_strategy.of(model)
    _distribute_strategy.replace(model, strategy)
    try:
        yield
    finally:
        _distribute_strategy.replace(model, own)


def outputs_of(model: keras.Model, x: Any) -> Any:
    """Calls a model as outside of training, whatever its `call` takes."""
    if _call_has_training_arg.of(model):
        return model(x, training=False)
    return model(x)


def global_seed_generator(
    *, make: bool = False
) -> keras.random.SeedGenerator | None:
    """Returns what `keras.random` draws from where it is given no seed.

    Args:
        make: Whether to make it where nothing was drawn yet, which draws a
            number of Python's. Defaults to `False`.

    Returns:
        The generator; `None` where there is none.
    """
    if make:
        return _global_seed_generator.find()()
    return _global_attribute.find()("global_seed_generator")


def seed_generator_under_construction() -> keras.random.SeedGenerator | None:
    """Returns the seed generator whose state is being created, if any."""
    constructor = keras.random.SeedGenerator.__init__.__code__
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code is constructor:
            return frame.f_locals["self"]
        frame = frame.f_back
    return None


def seed_generators(model: keras.Model) -> list[keras.random.SeedGenerator]:
    """Returns what a model and its layers draw random numbers from."""
    return [
        generator
        for layer in (model, *all_layers(model))
        for generator in _seed_generators.of(layer)
    ]


def own_non_trainable_weights(
    layer: keras.layers.Layer,
) -> list[keras.Variable]:
    """Returns a layer's own weights without gradient, no seeds or metrics."""
    return list(_non_trainable_variables.of(layer))


@contextlib.contextmanager
def weighing_statistics(weight: tf.Tensor) -> Iterator[None]:
    """Weighs what the replica at work adds to synchronized statistics.

    Args:
        weight: Scalar; 0 for a replica that has seen no samples, else 1.
            Within another such context they are multiplied.
    """
    context = tf.distribute.get_replica_context()
    if context is None:
        yield
        return
    around = vars(context).get("all_reduce")
    all_reduce = context.all_reduce

    def weighed(reduce_op: Any, value: Any, options: Any = None) -> Any:
        if sys._getframe(1).f_code.co_name == "_compute_moments_sync":
            value = value * tf.cast(weight, value.dtype)
        return all_reduce(reduce_op, value, options)

    context.all_reduce = weighed
    try:
        yield
    finally:
        if around is None:
            del context.all_reduce
        else:
            context.all_reduce = around


def all_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Returns the layers of a model, those inside of layers too."""
    layers = _flatten_layers.of(model)(include_self=False, recursive=True)
    return list(layers)
