"""Which private name of Keras moved, of those that `keras_adam` uses."""

import keras
import numpy as np
import pytest
from contracts import contract

from tfdp.upstream.keras import keras_adam


@pytest.mark.parametrize(
    "kind", [keras.optimizers.Adam, keras.optimizers.AdamW]
)
@contract(
    "Adam",
    "_momentums",
    "_velocities",
    serves="Adam would update by something else than its averages",
)
def test_adam_keeps_its_averages_in_the_order_of_variables(kind):
    variables = [
        keras.Variable(np.ones(size), name=f"weight_{size}") for size in (2, 3)
    ]
    optimizer = kind(0.1)
    optimizer.build(variables)
    for place, variable in enumerate(variables):
        first, second = keras_adam.moments_at(optimizer, place)
        assert first.name == f"{variable.path}_momentum".replace("/", "_")
        assert second.name == f"{variable.path}_velocity".replace("/", "_")
