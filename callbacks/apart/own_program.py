"""What a worker is about to train, and how, to be compared with the chief's."""

from typing import Any

import keras

from tfdp.agreement import program
from tfdp.asynchronous import programs
from tfdp.strategy import NumberedDataset
from tfdp.upstream.keras import inspection, keras_fit

# Another share of the batches for each worker; what the server is told anyhow.
_LEFT_OUT = ("steps per epoch", "shapes of weights")
_ARGUMENTS = (
    "initial_epoch",
    "batch_size",
    "shuffle",
    "class_weight",
    "steps_per_epoch",
    "validation_split",
    "validation_steps",
    "validation_batch_size",
    "validation_freq",
)
# Whose contents are not compared.
_DATA = ("sample_weight", "validation_data")


def own_program(
    model: keras.Model, params: dict[str, Any], data: NumberedDataset
) -> dict[str, str]:
    """Describes how this worker is about to train, for `Description.program`.

    Args:
        model: The compiled model, in a `fit`.
        params: Parameters of the `fit`.
        data: What it trains on.
    """
    given = keras_fit.arguments_of_fit()
    about = program(model, params)
    return programs.in_words(
        {
            # In terms of what the program says, where it does.
            **{name: given[name] for name in _ARGUMENTS if name in given},
            **{
                name: "none" if given[name] is None else "given"
                for name in _DATA
                if name in given
            },
            **{
                name: item
                for name, item in about.items()
                if name not in _LEFT_OUT and not name.startswith("optimizer ")
            },
            **data.facts,
            **_of_optimizers(model),
        }
    )


def _of_optimizers(model: keras.Model) -> dict[str, Any]:
    """Arguments of the optimizers around the one that the server has."""
    return {
        f"{name} of the optimizer": value
        for optimizer in inspection.optimizers(model)
        for name, value in optimizer.get_config().items()
        if name not in ("name", "inner_optimizer")
    }
