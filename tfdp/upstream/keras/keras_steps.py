"""The step of training that Keras makes itself, in parts.

A doorway to private names of Keras, each of which has a contract in
`tests/upstream/test_keras_steps.py`.
"""

import sys
import types
from typing import Any

import keras
import tensorflow as tf

from tfdp.upstream.keras import keras_losses
from tfdp.upstream.private import Member

_SERVES = "`jit_compile=True` fails under a strategy"
_jit_compile = Member("_jit_compile", serves=_SERVES)
_compile_config = Member("_compile_config", serves=_SERVES)
_compute_loss = Member("_compute_loss", serves=_SERVES)
_loss_tracker = Member("_loss_tracker", serves=_SERVES)
_call_has_training_arg = Member("_call_has_training_arg", serves=_SERVES)


class _Inside(int):
    """What a model answers for `jit_compile`, so that Keras compiles nothing.

    It is gone with the next `compile`, as the answer to that is. A number, 0,
    it is copied and saved as `False` would be.
    """

    def __repr__(self) -> str:
        return "inside of each replica"


def compile_inside(model: keras.Model) -> None:
    """Has Keras leave compilation to what runs inside of each replica.

    Otherwise `jit_compile=True` has it compile a step as a whole, collectives
    and all.

    Args:
        model: A model that is about to make its function of training.
    """
    if model.jit_compile:
        _jit_compile.replace(model, _Inside())


def compiles(model: keras.Model) -> bool:
    """Whether a model is to be compiled, as a whole or inside of replicas."""
    return bool(model.jit_compile) or isinstance(model.jit_compile, _Inside)


def was_refused(model: keras.Model) -> bool:
    """Whether Keras has gone on without the compilation that it was asked for.

    As it does where a layer says that it cannot be compiled.
    """
    asked = (_compile_config.of(model).config or {}).get("jit_compile")
    is_asked = bool(asked) and asked != "auto"
    return is_asked and not compiles(model) and not model.run_eagerly


def loss_and_outputs(
    model: keras.Model, x: Any, y: Any, sample_weight: Any
) -> tuple[tf.Tensor, Any]:
    """Goes forward as `train_step` of Keras's does.

    Args:
        model: The model, compiled with a loss.
        x: Its inputs.
        y: The labels, or `None`.
        sample_weight: Weights of the samples, or `None`.

    Returns:
        This replica's loss, divided by their number, and the outputs.
    """
    if _call_has_training_arg.of(model):
        outputs = model(x, training=True)
    else:
        outputs = model(x)
    loss = _compute_loss.of(model)(
        x=x,
        y=y,
        y_pred=outputs,
        sample_weight=sample_weight,
        training=True,
    )
    return loss, outputs


def log_loss(model: keras.Model, loss: tf.Tensor, x: Any) -> None:
    """Gives a loss to the mean that is logged, as `train_step` does.

    Args:
        model: The model.
        loss: This replica's loss, divided by their number.
        x: Inputs, whose samples it is the mean of.
    """
    first = next(each for each in keras.tree.flatten(x) if each is not None)
    _loss_tracker.of(model).update_state(
        keras_losses.undivided(loss), sample_weight=tf.shape(first)[0]
    )


def at_work() -> keras.layers.Layer | keras.losses.Loss | None:
    """Returns the innermost layer or loss that is being called, if any."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, keras.layers.Layer | keras.losses.Loss):
            return owner
        frame = frame.f_back
    return None
