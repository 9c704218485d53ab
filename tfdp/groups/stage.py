"""Layers that are computed on one device of a replica."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfdp.checks import checked_count
from tfdp.groups import symbols
from tfdp.groups.differentiation import computed_on
from tfdp.groups.in_turn import InTurn
from tfdp.groups.placement import (
    check_index,
    group_size,
    own_device,
    place,
    variables_of_stage,
)
from tfdp.upstream.keras import inspection, keras_masks
from tfdp.upstream.keras.keras_variables import Recording, are_substituted


@keras.saving.register_keras_serializable(package="tfdp")
class Stage(InTurn):
    """Layers, one after another, on one device of a group.

    Where a strategy has groups of devices, weights of the layers are made on
    the device `index` of each group, forward and backward pass run there, and
    optimizers keep their state there. Anywhere else, as on one device, it is
    what `keras.Sequential` would be: the numbers are the same.

    Weights that layers have made before are made anew where they belong, so
    that a model may be a layer of a stage.

    Args:
        layers: The layers. The first takes what the stage is given, a tensor
            or a structure of them; each other what the one before has
            returned.
        index: Place of the device in each group; from 0.
        kwargs: `name` and `trainable`, as of any layer. A stage has no
            `dtype`: its layers have.

    Raises:
        TypeError: If `layers` are no layers, or `index` is not an integer.
        ValueError: If there are none, one of them is there twice, is a stage
            itself or an `InputLayer`, or `index` is below 0; when it is
            built, if a group has fewer devices.

    Example:

    >>> cpus = tfdp.testing.logical_cpus(4)
    >>> strategy = tfdp.MirroredStrategy(groups=[cpus[:2], cpus[2:]])
    >>> with strategy.scope():
    ...     model = keras.Sequential(
    ...         [
    ...             keras.Input((4,)),
    ...             tfdp.Stage([keras.layers.Dense(8, "relu")], index=0),
    ...             tfdp.Stage([keras.layers.Dense(1)], index=1),
    ...         ]
    ...     )
    >>> copies = strategy.experimental_local_results(model.weights[-1].value)
    >>> [copy.device[-5:] for copy in copies]
    ['CPU:1', 'CPU:3']
    """

    argument = "layers"

    def __init__(
        self,
        layers: Sequence[keras.layers.Layer],
        index: int,
        **kwargs: Any,
    ) -> None:
        # What a layer is given it casts itself.
        super().__init__(autocast=False, **kwargs)
        self.layers = _checked_layers(layers)
        self.index = checked_count("index", index, minimum=0)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        """Builds the layers, on the devices of the stage.

        Args:
            input_shape: Shape of what the stage is given, or a structure.
        """
        strategy = tf.distribute.get_strategy()
        check_index(self.index, strategy)
        if group_size(strategy):
            # XLA compiles for one device.
            self.supports_jit = False
        with variables_of_stage(self.index):
            inputs = symbols.of_shapes(
                input_shape, self.layers[0].compute_dtype
            )
            self.in_turn(inputs)
        place(self.variables, self.index)

    def call(self, inputs: Any, mask: Any = None, training: Any = None) -> Any:
        """Computes the layers.

        Args:
            inputs: A tensor, or a structure of them.
            mask: Their masks, in the same structure.
            training: Whether to train; each layer is told by Keras.

        Returns:
            What the last layer returns.
        """
        device = own_device(self.index)
        if device is None:
            keras_masks.attach(inputs, mask)
            return self.in_turn(inputs)
        if are_substituted(self.trainable_variables):
            # As in Keras's `stateless_call`: there is no asking for their
            # gradients.
            with tf.device(device):
                keras_masks.attach(inputs, mask)
                return self.in_turn(inputs)
        return self._computed_on(device, inputs, mask)

    def _computed_on(self, device: str, inputs: Any, mask: Any) -> Any:
        structure: list[Any] = []
        masks: list[Any] = []
        recording = Recording(self.variables)

        def forward(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
            given = tf.nest.pack_sequence_as(
                inputs, tensors, expand_composites=True
            )
            keras_masks.attach(given, mask)
            with recording:
                outputs = self.in_turn(given)
            structure.append(outputs)
            masks.extend(keras_masks.masks_of(outputs))
            flat = tf.nest.flatten(outputs, expand_composites=True)
            return [*flat, *recording.take_losses()]

        tensors = tf.nest.flatten(inputs, expand_composites=True)
        results = computed_on(device, forward, tensors)
        recording.assign()
        (given,) = structure
        count = len(tf.nest.flatten(given, expand_composites=True))
        for loss in results[count:]:
            self.add_loss(loss)
        outputs = tf.nest.pack_sequence_as(
            given, results[:count], expand_composites=True
        )
        keras_masks.attach(outputs, masks)
        return outputs

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the shape of the outputs, or a structure of them."""
        inputs = symbols.of_shapes(input_shape, self.layers[0].compute_dtype)
        return symbols.shapes_of(self.compute_output_spec(inputs))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor, for saving."""
        return {**super().get_config(), "index": self.index}


def _checked_layers(layers: Any) -> list[keras.layers.Layer]:
    if not isinstance(layers, Sequence) or not all(
        isinstance(each, keras.layers.Layer) for each in layers
    ):
        raise TypeError(
            "`layers` must be a list of Keras layers. Received: "
            f"layers={layers!r}. Pass, for example, "
            "[keras.layers.Dense(8), keras.layers.Dense(1)]."
        )
    layers = list(layers)
    if not layers:
        raise ValueError(
            "A Stage must have a layer at least. Received: layers=[]."
        )
    if any(isinstance(each, keras.layers.InputLayer) for each in layers):
        raise ValueError(
            "A Stage takes what it is given, and has no input of its own. "
            "Received: an InputLayer among its layers. Leave it out, and "
            "begin the model with `keras.Input(shape)`."
        )
    inner = [x for each in layers for x in (each, *inspection.layers(each))]
    stages = [each.name for each in inner if isinstance(each, Stage)]
    if stages:
        raise ValueError(
            "A Stage is on one device, and holds no other. Received: "
            f"`{stages[0]}` among its layers. Put stages one after another."
        )
    names = [each.name for each in layers]
    twice = [each.name for each in layers if names.count(each.name) > 1]
    if twice:
        raise ValueError(
            "The layers of a Stage must be different, with names of their "
            f"own. Received: `{twice[0]}` more than once. Layers that share "
            "weights make one layer together, such as a `keras.Model`."
        )
    return layers
