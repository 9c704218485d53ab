"""Keras's step of training, its forward and backward pass compiled."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfdp.compilation.compile_times import CompileTimes
from tfdp.compilation.refusals import (
    check_data,
    check_function,
    check_model,
    refuse_meeting,
)
from tfdp.step import placed_inside
from tfdp.upstream.keras import keras_masks, keras_models, keras_steps
from tfdp.upstream.tensorflow import tf_replicas


def compiled_step(
    model: keras.Model, times: CompileTimes
) -> Callable[[Any], Any]:
    """Returns a step that does what Keras's does, and computes it by XLA.

    Args:
        model: The model, compiled with a `tfdp.DistributedOptimizer`.
        times: Where to note how long it takes to compile.

    Returns:
        A function of a batch, to run on a replica, that returns logs.

    Raises:
        ValueError: If the model's step is not Keras's.
    """
    check_model(model)

    @tf.autograph.experimental.do_not_convert
    def step(data: Any) -> Any:
        check_data(data)
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        weights = model.trainable_weights
        if not weights:
            return model.train_step(data)
        both = _Passes(model, weights)
        loss, outputs, masks, gradients = times.noted(
            both.compiled(x, y, sample_weight), (x, y, sample_weight)
        )
        keras_steps.log_loss(model, loss, x)
        model.optimizer.apply_gradients(zip(gradients, weights, strict=True))
        keras_masks.attach(outputs, masks)
        return model.compute_metrics(x, y, outputs, sample_weight=sample_weight)

    return step


class _Passes:
    """Forward and backward of one replica, in a graph of its own."""

    def __init__(self, model: keras.Model, weights: list[Any]) -> None:
        self._model = model
        self._weights = weights

    def compiled(self, *arguments: Any) -> Callable[..., Any]:
        function = tf.function(self._call, jit_compile=True, autograph=False)
        draws = bool(keras_models.seed_generators(self._model))
        with (
            placed_inside(draws=draws),
            tf_replicas.never_meeting(refuse_meeting),
        ):
            concrete = function.get_concrete_function(*arguments)
        check_function(self._model, concrete)
        return function

    def _call(self, x: Any, y: Any, sample_weight: Any) -> Any:
        model = self._model
        with tf.GradientTape() as tape:
            loss, outputs = keras_steps.loss_and_outputs(
                model, x, y, sample_weight
            )
            scaled = model.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, self._weights)
        return loss, outputs, keras_masks.masks_of(outputs), gradients
