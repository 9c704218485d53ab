"""A layer of layers that are computed one after another."""

from typing import Any, Self

import keras

from tfdp.groups import symbols
from tfdp.upstream.keras import keras_masks


class InTurn(keras.layers.Layer):
    """Computes layers in turn, and is saved with them.

    Attributes:
        argument: The argument of the constructor, and attribute, that they
            are in.
    """

    argument: str

    def in_turn(self, inputs: Any) -> Any:
        """Computes the layers, each of what the one before has returned.

        Args:
            inputs: What the first is given.

        Returns:
            What the last has returned.
        """
        for layer in getattr(self, self.argument):
            inputs = layer(inputs)
        return inputs

    def compute_output_spec(
        self, inputs: Any, mask: Any = None, training: Any = None
    ) -> Any:
        """Returns symbolic outputs for symbolic inputs."""
        keras_masks.attach(inputs, mask)
        return symbols.afresh(self.in_turn(inputs))

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        """Makes no mask: the layers have attached theirs to the outputs."""

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor, for saving."""
        layers = getattr(self, self.argument)
        return {
            **super().get_config(),
            self.argument: list(
                map(keras.saving.serialize_keras_object, layers)
            ),
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Any = None
    ) -> Self:
        """Returns a layer of a configuration."""
        layers = [
            keras.saving.deserialize_keras_object(
                each, custom_objects=custom_objects
            )
            for each in config[cls.argument]
        ]
        return cls(**{**config, cls.argument: layers})
