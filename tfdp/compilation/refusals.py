"""What cannot be compiled inside of a replica, by name."""

import functools
import re
from collections.abc import Callable
from typing import Any, NoReturn

import keras
import tensorflow as tf

from tfdp.upstream.keras import inspection, keras_fit, keras_steps
from tfdp.upstream.tensorflow import tf_compilation

_OPERATION = re.compile(r"(?:at node |\{\{node )([\w/.]+)")
_STEPS = ("train_step", "compute_loss", "compute_metrics")
RULE = "XLA compiles Keras's own step, of layers that can be compiled."
WAY_OUT = "Compile the model with `jit_compile=False`"


def refusal(model: keras.Model) -> str | None:
    """Says why a model's replicas cannot be compiled, so far as it is known.

    Args:
        model: A compiled model, built or not.

    Returns:
        What was received; `None` where nothing is known against it.
    """
    for name in _STEPS:
        if keras_fit.is_own(model, name):
            return (
                f"jit_compile=True and {type(model).__name__}, whose `{name}` "
                "is its own, and may do anything"
            )
    named = layers_without_jit(model)
    if named:
        return f"jit_compile=True and the {named}, with `supports_jit=False`"
    return None


def layers_without_jit(model: keras.Model) -> str:
    """Names the layers that say that they cannot be compiled."""
    return ", ".join(
        f"layer `{each.name}`"
        for each in inspection.layers(model)
        if not each.supports_jit
    )


def check_model(model: keras.Model) -> None:
    """Refuses a model whose replicas cannot be compiled.

    Args:
        model: A compiled model.

    Raises:
        ValueError: If it is one.
        RuntimeError: If Keras compiles its step as a whole.
    """
    if model.jit_compile:
        raise RuntimeError(
            "Replicas are compiled one by one where `fit` makes the function "
            "of training. Received: jit_compile=True in a model that was "
            "compiled again within a `fit`, whose step Keras would compile as "
            "a whole. Give that `compile` jit_compile=False, or begin another "
            "`fit`."
        )
    found = refusal(model)
    if found:
        raise ValueError(f"{RULE} Received: {found}. {WAY_OUT}.")


def check_data(data: Any) -> None:
    """Refuses data that XLA has no form for.

    Args:
        data: What a step of training is called with.

    Raises:
        TypeError: If it holds ragged or sparse tensors, or strings.
    """
    for path, leaf in keras.tree.flatten_with_path(data):
        kind = type(leaf).__name__
        if leaf is not None and kind in ("RaggedTensor", "SparseTensor"):
            received = f"a {kind}"
        elif getattr(leaf, "dtype", None) == "string":
            received = "strings"
        else:
            continue
        raise TypeError(
            "XLA compiles what is computed of dense numbers. Received: "
            f"jit_compile=True and {received} in the data, at {path}. "
            f"{WAY_OUT}, or make numbers of it in the `tf.data` pipeline."
        )


def check_function(model: keras.Model, function: Any) -> None:
    """Refuses what XLA has no kernels for.

    Args:
        model: The model.
        function: The concrete function, forward and backward.

    Raises:
        TypeError: If there is an operation that it cannot compile.
    """
    found: dict[str, set[str]] = {}
    for kind, name in tf_compilation.not_compilable(function):
        found.setdefault(_layer_in(model, name), set()).add(kind)
    if found:
        received = "; ".join(
            f"{layer}, which uses {', '.join(sorted(kinds))}"
            for layer, kinds in found.items()
        )
        raise TypeError(
            "XLA compiles operations that it has kernels for. Received: "
            f"jit_compile=True and {received}. {WAY_OUT}, or do without, or "
            "do it in the `tf.data` pipeline."
        )


def naming_refused(
    model: keras.Model, function: Callable[..., Any]
) -> Callable[..., Any]:
    """Returns `function`, whose errors say what XLA has refused.

    Some things it refuses only when a step runs, by a message about operations.

    Args:
        model: The model.
        function: What runs steps of it; returned as it is where none is to be
            compiled.
    """
    if not keras_steps.compiles(model):
        return function

    @functools.wraps(function)
    def naming(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except tf.errors.OpError as error:
            found = _OPERATION.search(error.message)
            if found is None or "XLA" not in error.message:
                raise
            raise TypeError(
                "XLA compiles what has shapes that follow from those of the "
                "data. Received: jit_compile=True and "
                f"{_layer_in(model, found[1])}, whose operation `{found[1]}` "
                f"it refuses. {WAY_OUT}, or compute shapes without looking at "
                f"values. XLA says: {error.message}"
            ) from error

    return naming


def refuse_meeting(*_: Any, **__: Any) -> NoReturn:
    """Refuses what meets other replicas in the middle of a forward pass.

    Raises:
        TypeError: In any case.
    """
    raise TypeError(
        "What meets other replicas stays outside of what XLA compiles. "
        f"Received: jit_compile=True and {_at_work()}, which needs numbers of "
        f"all replicas in the middle of a forward pass. {WAY_OUT}, or do "
        "without it."
    )


def _layer_in(model: keras.Model, operation: str) -> str:
    """Names the innermost layer that an operation is of."""
    names = {each.name for each in inspection.layers(model)}
    for part in reversed(operation.split("/")):
        for name in (part, re.sub(r"_\d+$", "", part)):
            if name in names:
                return f"the layer `{name}`"
    return f"`{operation}`"


def _at_work() -> str:
    """Names the layer or loss that is being called."""
    owner = keras_steps.at_work()
    if isinstance(owner, keras.losses.Loss):
        return f"the loss `{owner.name}`, a {type(owner).__name__}"
    return "a reduction" if owner is None else f"the layer `{owner.name}`"
