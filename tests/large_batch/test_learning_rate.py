import math
import re

import keras
import numpy as np
import pytest
from keras.optimizers import schedules

from tfdp.large_batch.learning_rate import linear_scaled_rate, sqrt_scaled_rate
from tfdp.large_batch.warmup import WarmupSchedule

SCALING_RULES = [linear_scaled_rate, sqrt_scaled_rate]


@pytest.mark.parametrize("growth", [0.25, 1, 2, 32])
def test_linear_rule_multiplies_by_the_growth_of_the_batch(growth):
    rate = linear_scaled_rate(0.1, global_batch=int(256 * growth))
    assert rate == pytest.approx(0.1 * growth, rel=1e-12)


@pytest.mark.parametrize("growth", [0.25, 1, 2, 32])
def test_sqrt_rule_multiplies_by_the_root_of_the_growth(growth):
    rate = sqrt_scaled_rate(0.1, global_batch=int(256 * growth))
    assert rate == pytest.approx(0.1 * math.sqrt(growth), rel=1e-12)


@pytest.mark.parametrize("rule", SCALING_RULES)
def test_a_rule_changes_nothing_at_the_base_batch(rule):
    assert rule(0.1, global_batch=96, base_batch=96) == 0.1


@pytest.mark.parametrize("rule", SCALING_RULES)
def test_a_rule_takes_numpy_numbers_and_returns_a_float(rule):
    rate = rule(np.float64(0.1), global_batch=np.int64(512))
    assert type(rate) is float
    assert rate == rule(0.1, global_batch=512)


@pytest.mark.parametrize("rule", SCALING_RULES)
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"base_rate": 0}, ValueError, "base_rate` must be finite and pos"),
        ({"base_rate": -0.1}, ValueError, "Received: base_rate=-0.1."),
        ({"base_rate": math.inf}, ValueError, "Received: base_rate=inf."),
        ({"base_rate": math.nan}, ValueError, "Received: base_rate=nan."),
        ({"base_rate": True}, TypeError, "`base_rate` must be a number."),
        ({"base_rate": "0.1"}, TypeError, "Received: base_rate='0.1' (str)."),
        ({"global_batch": 0}, ValueError, "Received: global_batch=0."),
        ({"global_batch": 1.5}, TypeError, "Received: global_batch=1.5"),
        ({"base_batch": -1}, ValueError, "Received: base_batch=-1."),
        ({"base_batch": None}, TypeError, "Received: base_batch=None"),
    ],
)
def test_a_rule_refuses_what_it_cannot_scale(rule, arguments, error, message):
    sound = {"base_rate": 0.1, "global_batch": 512, "base_batch": 256}
    with pytest.raises(error, match=re.escape(message)):
        rule(**{**sound, **arguments})


@pytest.mark.parametrize("rule", SCALING_RULES)
def test_a_rule_refuses_a_schedule_and_says_how_to_scale_it(rule):
    with pytest.raises(TypeError, match="must be a number") as error:
        rule(schedules.CosineDecay(0.1, 10), global_batch=512)
    assert "Received: base_rate=CosineDecay." in str(error.value)
    assert "Pass a schedule to `tfdp.scale_learning_rate`." in str(error.value)


def test_fit_follows_the_schedule():
    """The weights equal those of gradient descent written by hand."""
    schedule = WarmupSchedule(schedules.CosineDecay(0.1, 20), 4)
    model = keras.Sequential(
        [
            keras.Input((1,)),
            keras.layers.Dense(
                1, use_bias=False, kernel_initializer=keras.initializers.Ones()
            ),
        ]
    )
    model.compile(keras.optimizers.SGD(schedule), loss="mse")
    inputs = np.linspace(-1, 1, 8, dtype="float32")[:, None]
    model.fit(inputs, 3 * inputs, batch_size=8, epochs=12, verbose=0)

    weight = 1.0
    for update in range(12):
        gradient = np.mean(2 * (weight - 3) * inputs**2)
        weight -= float(schedule(update)) * gradient
    assert model.get_weights()[0].item() == pytest.approx(weight, rel=1e-6)
