"""A computation whose gradient is computed where it was."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf


def computed_on(
    device: str,
    function: Callable[[list[tf.Tensor]], list[tf.Tensor]],
    tensors: Sequence[tf.Tensor],
) -> list[tf.Tensor]:
    """Computes on a device, and so does whoever asks for the gradient.

    TensorFlow alone has the backward pass on the device of who asks.

    Args:
        device: Name of the device.
        function: Returns tensors, given tensors; called once.
        tensors: What it is given.

    Returns:
        What it returned.
    """
    made: list[tf.Tensor] = []

    @tf.custom_gradient
    def forward(*given: tf.Tensor) -> Any:
        sources = [each for each in given if _is_differentiable(each)]
        # Somebody may ask twice.
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(sources)
            made.extend(function(list(given)))
        targets = [each for each in made if _is_differentiable(each)]

        def backward(*upstream: Any, variables: Any = None) -> Any:
            known = list(variables or [])
            with tf.device(device):
                gradients = tape.gradient(
                    targets, [*sources, *known], output_gradients=list(upstream)
                )
            of_sources = iter(gradients)
            inputs = [
                next(of_sources) if _is_differentiable(each) else None
                for each in given
            ]
            return (inputs, list(of_sources)) if known else inputs

        return targets, backward

    # The copies that TensorFlow makes of weights, too.
    with tf.device(device):
        targets = iter(forward(*tensors))
    return [
        next(targets) if _is_differentiable(each) else each for each in made
    ]


def _is_differentiable(tensor: tf.Tensor) -> bool:
    return tensor.dtype.is_floating or tensor.dtype.is_complex
