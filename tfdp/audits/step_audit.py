"""The gradients of a `train_step` of the user's own, of a batch and its halves.

The step is run on one device, as the only replica of the whole batch, and as
one of two that have half of it each. Optimizers give their gradients away
instead of taking them, and all values that the step changes are copies.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdp.audits.findings import Finding
from tfdp.audits.loss_comparison import times
from tfdp.step import (
    counted,
    gradients_mix,
    local_samples,
    pretending,
    taken_weight,
)
from tfdp.upstream.keras import inspection, keras_models
from tfdp.upstream.tensorflow import tf_functions


def findings(model: keras.Model, data: Any) -> list[Finding] | None:
    """Compares the gradients of a batch with those of two replicas.

    Args:
        model: A compiled model with a `train_step` of its own.
        data: A batch, as the step takes it.

    Returns:
        What was found; `None` where the step could not be looked into.
    """
    if not keras_models.is_built(model):
        return None  # Its variables would be made here.
    try:
        with keras_models.with_copies(model, _variables(model)) as copies:
            return _found_in(model, data, copies)
    except Exception:  # Of the user's code, which may do anything.
        return None


def _found_in(
    model: keras.Model, data: Any, copies: list[tf.Variable]
) -> list[Finding] | None:
    half = int(keras.tree.flatten(data)[0].shape[0]) // 2
    if not half:
        return None
    first = _mapped(lambda leaf: leaf[:half], data)
    second = _mapped(lambda leaf: leaf[half : 2 * half], data)
    # Replicas that have the same rows differ by their number alone, whatever
    # the statistics of a batch are.
    doubled = _mapped(lambda leaf: tf.concat([leaf, leaf], 0), first)
    tried = [(doubled, (first, first))]
    if not any(map(_takes_statistics, inspection.layers(model))):
        data = _mapped(lambda leaf: leaf[: 2 * half], data)
        tried.append((data, (first, second)))
    alone, one_of_two = _traced(model, doubled, 1), _traced(model, first, 2)
    functions = (alone, one_of_two)
    used = {id(v): v for f in functions for v in f.graph.variables}
    state = [(v, v.numpy()) for v in (*used.values(), *copies)]
    try:
        for whole, parts in tried:
            expected = _run(alone, whole, state)
            of_parts = [_run(one_of_two, part, state) for part in parts]
            finding = _compared(model, expected, of_parts)
            if finding is not None:
                # Each of two replicas draws numbers of its own.
                is_random = any(map(tf_functions.is_random, functions))
                return None if is_random else [finding]
        return []
    finally:
        _put_back(state)


def _mapped(change: Callable[[tf.Tensor], tf.Tensor], data: Any) -> Any:
    return keras.tree.map_structure(
        lambda leaf: None if leaf is None else change(leaf), data
    )


def _variables(model: keras.Model) -> Iterator[keras.Variable]:
    for part in (
        model,
        *inspection.layers(model),
        *inspection.metrics(model),
        *_optimizers(model),
    ):
        yield from part.variables


def _optimizers(model: keras.Model) -> list[keras.optimizers.Optimizer]:
    return [*inspection.optimizers(model), model.optimizer]


def _takes_statistics(layer: keras.layers.Layer) -> bool:
    is_of_batches = isinstance(layer, keras.layers.BatchNormalization)
    return is_of_batches and layer.trainable


def _traced(model: keras.Model, data: Any, replicas: int) -> Any:
    """Returns a step that returns its gradients, as a concrete function."""
    strategy = _OneOf("CPU:0", replicas)
    taken: list[tf.Tensor] = []

    def step(batch: Any) -> Any:
        with counted((batch,)):
            model.train_step(batch)
        return list(taken)

    @tf.function
    def function(batch: Any) -> Any:
        return strategy.run(step, (batch,))

    with (
        keras_models.lent_to(model, strategy),
        pretending(replicas),
        _taking(_optimizers(model), taken),
        tf.variable_creator_scope(_refused),
        strategy.scope(),
    ):
        made = function.get_concrete_function(_mapped(_spec, data))
    if not taken:
        raise _UnknownError("It gives no gradients to an optimizer.")
    return made


@contextlib.contextmanager
def _taking(
    optimizers: Sequence[keras.optimizers.Optimizer], taken: list[tf.Tensor]
) -> Iterator[None]:
    """Has optimizers give the gradients that they are given to a list."""

    @tf.autograph.experimental.do_not_convert
    def apply(gradients: Any, variables: Any = None) -> None:
        weight = taken_weight()
        if gradients_mix() or weight is None or weight.adds:
            raise _UnknownError("Replicas would tell each other of it.")
        if weight.value is not local_samples():
            raise _UnknownError("It is averaged over something of its own.")
        taken.extend(
            tf.convert_to_tensor(gradient)
            for gradient in gradients
            if gradient is not None
        )

    for optimizer in optimizers:
        vars(optimizer)["apply"] = apply
    try:
        yield
    finally:
        for optimizer in optimizers:
            vars(optimizer).pop("apply", None)


def _refused(*_: Any, **__: Any) -> Any:
    raise _UnknownError("It makes variables.")


def _run(function: Any, batch: Any, state: list[Any]) -> list[np.ndarray]:
    _put_back(state)
    return [np.asarray(each, "float64") for each in function(batch)]


def _put_back(state: list[Any]) -> None:
    for variable, value in state:
        variable.assign(value)


def _compared(
    model: keras.Model,
    expected: list[np.ndarray],
    of_parts: list[list[np.ndarray]],
) -> Finding | None:
    together = [np.sum(parts, axis=0) for parts in zip(*of_parts, strict=True)]
    if not all(np.isfinite(each).all() for each in (*expected, *together)):
        raise _UnknownError("It has no numbers.")
    digits = 2e-2 if model.compute_dtype in ("float16", "bfloat16") else 1e-4
    everything = max(map(_size, expected), default=0.0)
    differing = [
        (one, other)
        for one, other, *parts in zip(
            expected, together, *of_parts, strict=True
        )
        if _size(one - other)
        > digits * max(*map(_size, (one, *parts)), 0.1 * everything)
    ]
    if not differing:
        return None
    square = sum(float((one**2).sum()) for one, _ in differing)
    along = sum(float((one * other).sum()) for one, other in differing)
    if abs(along - square) > 1e-2 * square:
        amount = f"is {times(along, square)} as large"
    else:
        off = sum(float(((a - b) ** 2).sum()) for a, b in differing)
        amount = f"differs by {(off / square) ** 0.5:.2g} times its size"
    return Finding(
        "The gradients that a `train_step` gives to the optimizer must add up, "
        "over replicas, to that of the whole batch.",
        f"`{type(model).__name__}.train_step`, whose gradient {amount} where "
        "two replicas have half of a batch each",
        "error",
        "Divide what Keras does not by `tf.distribute.get_strategy()."
        "num_replicas_in_sync`, each term of a loss once; leave clipping to "
        "the optimizer (`clipnorm`, `global_clipnorm`); what looks at the "
        "batch as a whole needs tfdp.DistributedLoss or tfdp.gather.",
    )


def _size(values: np.ndarray) -> float:
    return float(np.abs(values).max(initial=0.0))


def _spec(tensor: tf.Tensor) -> tf.TensorSpec:
    return tf.TensorSpec(tensor.shape, tensor.dtype)


class _UnknownError(Exception):
    pass


class _OneOf(tf.distribute.OneDeviceStrategy):
    """One device that says it is one of some replicas."""

    def __init__(self, device: str, replicas: int) -> None:
        super().__init__(device)
        self._replicas = replicas

    @property
    def num_replicas_in_sync(self) -> int:
        """How many replicas a step divides by."""
        return self._replicas
