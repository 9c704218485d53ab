"""Stages that work on micro-batches side by side."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfdp.checks import checked_count
from tfdp.groups import symbols
from tfdp.groups.in_turn import InTurn
from tfdp.groups.micro_batches import MicroBatch, parts_of, together
from tfdp.groups.stage import Stage
from tfdp.upstream.keras import (
    inspection,
    keras_masks,
    keras_models,
    keras_variables,
)
from tfdp.upstream.keras.keras_variables import Recording


@keras.saving.register_keras_serializable(package="tfdp")
class Pipeline(InTurn):
    """Stages, one after another, each at work on another micro-batch.

    What a replica has of a batch is divided into micro-batches. While one is
    in the second stage, the next is in the first; TensorFlow starts what does
    not depend on each other at once. Afterwards they are put together, so
    that the numbers are those of the whole batch, whatever its size. All
    micro-batches' activations are kept for the backward pass.

    Layers that look at the batch as a whole look at a micro-batch:
    `BatchNormalization` normalises by its statistics, and moves its averages
    once for each. What layers inside give to `add_loss` is taken for a mean
    over samples.

    Args:
        stages: The stages, of type `tfdp.Stage`.
        micro_batches: Number of micro-batches. A multiple of the number of
            stages keeps these busier: `M` micro-batches in `S` stages take
            the time of `M + S - 1`. Defaults to 1.
        kwargs: `name` and `trainable`, as of any layer.

    Raises:
        TypeError: If `stages` are not of type `tfdp.Stage`, or
            `micro_batches` is not an integer.
        ValueError: If there are none, a layer is in several of them, a layer
            keeps a state for each row of a batch, or `micro_batches` is
            below 1; when it is called, if what it is given has no rows.

    Example:

    >>> model = keras.Sequential(
    ...     [
    ...         keras.Input((4,)),
    ...         tfdp.Pipeline(
    ...             [
    ...                 tfdp.Stage([keras.layers.Dense(8, "relu")], index=0),
    ...                 tfdp.Stage([keras.layers.Dense(1)], index=1),
    ...             ],
    ...             micro_batches=4,
    ...         ),
    ...     ]
    ... )
    >>> model.predict(np.zeros((3, 4)), verbose=0).shape
    (3, 1)

    Reference:
        Huang et al., 2019, section 2. https://arxiv.org/abs/1811.06965
    """

    argument = "stages"

    def __init__(
        self,
        stages: Sequence[Stage],
        micro_batches: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.stages = _checked_stages(stages)
        self.micro_batches = checked_count("micro_batches", micro_batches)
        if self.micro_batches > 1:
            _check_rows(self.stages)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        """Builds the stages.

        Args:
            input_shape: Shape of what the first is given, or a structure.
        """
        first, *_ = self.stages[0].layers
        self.in_turn(symbols.of_shapes(input_shape, first.compute_dtype))

    def call(self, inputs: Any, mask: Any = None, training: Any = None) -> Any:
        """Computes the stages.

        Args:
            inputs: A tensor, or a structure of them.
            mask: Their masks, in the same structure.
            training: Whether to train; each layer is told by Keras.

        Returns:
            What the last stage returns.
        """
        keras_masks.attach(inputs, mask)
        if self.micro_batches == 1:
            return self.in_turn(inputs)
        parts: list[Any] = []
        losses: list[tf.Tensor] = []
        with Recording(self.variables) as recording:
            for part in parts_of(inputs, self.micro_batches):
                parts.append(self._of(part, inputs, recording))
                losses += map(part.weighted, recording.take_losses())
        recording.assign()
        if losses:
            self.add_loss(tf.add_n(losses))
        return together(parts, inputs)

    def _of(self, part: MicroBatch, inputs: Any, recording: Recording) -> Any:
        before = dict(recording.updates)
        counts = part.size > 0
        # Where statistics are those of all replicas.
        with keras_models.weighing_statistics(counts):
            outputs = self.in_turn(part.of(inputs))
        for key, (variable, value) in list(recording.updates.items()):
            old = keras_variables.made_value(variable)
            if key in before:
                _, old = before[key]
            if old is not None:
                variable.assign(tf.where(counts, value, old))
        masks = keras_masks.masks_of(outputs)
        outputs = keras.tree.map_structure(part.counting, outputs)
        keras_masks.attach(
            outputs, [None if m is None else m[: part.size] for m in masks]
        )
        return outputs

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the shape of the outputs, or a structure of them."""
        for stage in self.stages:
            input_shape = stage.compute_output_shape(input_shape)
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor, for saving."""
        return {**super().get_config(), "micro_batches": self.micro_batches}


def _checked_stages(stages: Any) -> list[Stage]:
    if not isinstance(stages, Sequence) or not all(
        isinstance(each, Stage) for each in stages
    ):
        raise TypeError(
            "`stages` must be a list of tfdp.Stage. Received: "
            f"stages={stages!r}. Wrap the layers of each device: "
            "tfdp.Stage([keras.layers.Dense(8)], index=0)."
        )
    stages = list(stages)
    if not stages:
        raise ValueError(
            "A Pipeline must have a stage at least. Received: stages=[]."
        )
    seen: dict[int, str] = {}
    for stage in stages:
        for layer in (stage, *inspection.layers(stage)):
            if id(layer) in seen and seen[id(layer)] != stage.name:
                raise ValueError(
                    "A layer belongs to one stage, where its weights are. "
                    f"Received: `{layer.name}` in stages "
                    f"`{seen[id(layer)]}` and `{stage.name}`. Put what shares "
                    "weights into one stage, or use two layers."
                )
            seen[id(layer)] = stage.name
    return stages


def _check_rows(stages: Sequence[Stage]) -> None:
    for stage in stages:
        for layer in inspection.layers(stage):
            if getattr(layer, "stateful", False):
                raise ValueError(
                    "Layers that keep a state for each row of a batch cannot "
                    "work on micro-batches, whose rows are others. Received: "
                    f"`{layer.name}` with stateful=True. Use "
                    "micro_batches=1."
                )
