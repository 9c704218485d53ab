"""What a worker is about to train, in words that differ where it does."""

import json
import warnings

import keras
import numpy as np
import pytest

import tfdp
from tfdp.agreement.same_program import program

PARAMS = {"epochs": 2, "steps": 5, "verbose": 1}


def described(optimizer=None, *, units=1, params=PARAMS, **arguments):
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(units, name="head")]
    )
    model.compile(optimizer or keras.optimizers.SGD(0.1), "mse", **arguments)
    return program(model, params)


def differing(one, other):
    return {
        name
        for name in one.keys() | other.keys()
        if one.get(name) != other.get(name)
    }


def test_versions_are_described():
    items = described()
    assert items["version of tfdp"] == tfdp.__version__
    assert items["version of Keras"] == keras.__version__
    assert {"version of Python", "version of TensorFlow"} < items.keys()


def test_the_fit_is_described():
    items = described(steps_per_execution=4)
    assert (items["epochs"], items["steps per epoch"]) == (2, 5)
    assert items["steps per execution"] == 4
    assert "verbose" not in items


def test_an_unknown_number_of_steps_is_described():
    assert described(params={})["steps per epoch"] is None
    # Nor is there a `fit` whose data would tell.
    assert described()["samples of a step"] is None


def test_the_weights_are_described():
    assert described()["shapes of weights"] == [
        "sequential/head/kernel (3, 1) float32",
        "sequential/head/bias (1,) float32",
    ]
    assert differing(described(), described(units=2)) == {"shapes of weights"}


def test_what_else_a_process_has_made_does_not_count():
    """Keras numbers the names of models, layers and optimizers by it."""
    assert differing(described(), described()) == set()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.2)),
        (
            keras.optimizers.Adam(0.1, weight_decay=0.1),
            keras.optimizers.AdamW(0.1, weight_decay=0.1),
        ),
        (
            keras.optimizers.SGD(0.1, clipnorm=np.float32(1)),
            keras.optimizers.SGD(0.1, clipnorm=np.float32(2)),
        ),
        (
            tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1)),
            tfdp.DistributedOptimizer(keras.optimizers.SGD(0.2)),
        ),
        (
            keras.optimizers.SGD(
                keras.optimizers.schedules.CosineDecay(0.1, 10)
            ),
            keras.optimizers.SGD(
                keras.optimizers.schedules.CosineDecay(0.1, 20)
            ),
        ),
    ],
    ids=["rate", "kind", "numpy", "wrapped", "schedule"],
)
def test_optimizers_that_differ_are_described_differently(one, other):
    assert differing(described(one), described(other)) == {"optimizer 0"}


def test_losses_and_metrics_are_described():
    items = described(metrics=["mae"], loss_weights=0.5)
    assert items["the loss"] == "mse"
    assert items["the metrics"] == '["mae"]'
    other = described(metrics=["mse"], loss_weights=0.5)
    assert differing(items, other) == {"the metrics"}
    other = described(metrics=["mae"])
    assert differing(items, other) == {"the weights of losses"}


def test_every_optimizer_of_a_model_is_described():
    class Pair(keras.Model):
        def __init__(self):
            super().__init__()
            self.first = keras.optimizers.SGD(0.1)
            self.second = keras.optimizers.Adam(0.1)

    model = Pair()
    model.compile(loss="mse")
    items = program(model, PARAMS)
    assert {"optimizer 0", "optimizer 1"} < items.keys()


class Halving(keras.optimizers.schedules.LearningRateSchedule):
    """Without a `get_config`, which a schedule needs for nothing else."""

    def __call__(self, step):
        return 0.5 ** keras.ops.cast(step, "float32")


@pytest.mark.parametrize(
    "rate", [lambda: 0.1, Halving()], ids=["lambda", "schedule"]
)
def test_a_rate_that_keras_cannot_describe_is_no_obstacle(rate):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one, other = (described(keras.optimizers.SGD(rate)) for _ in range(2))
    assert differing(one, other) == set()


def test_json_can_hold_every_item():
    items = described(
        tfdp.DistributedOptimizer(keras.optimizers.Adam(0.1, clipvalue=1.0))
    )
    assert json.loads(json.dumps(items)) == items
