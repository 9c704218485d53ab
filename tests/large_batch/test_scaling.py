"""An optimizer for a larger batch: its rate, its momentum, its decay."""

import json
import math
import re

import hypothesis
import keras
import numpy as np
import pytest
from hypothesis import strategies as st
from keras.optimizers import schedules

import tfdp
from tfdp.batch import BatchPlan

PLAN = BatchPlan(per_replica_batch=64, num_replicas=16, accumulation_steps=4)
LINEAR, SQRT, NONE = 16.0, 4.0, 1.0
FACTORS = {"linear": LINEAR, "sqrt": SQRT, "none": NONE}
BUILT_IN = {
    name: value
    for name, value in vars(keras.optimizers).items()
    if isinstance(value, type)
    and issubclass(value, keras.optimizers.Optimizer)
    and name not in ("Optimizer", "LossScaleOptimizer", "MultiOptimizer")
}
OPTIMIZERS = {
    **BUILT_IN,
    "MomentumCorrectedSGD": tfdp.MomentumCorrectedSGD,
    "LARS": tfdp.LARS,
}
OF_LINEAR = {"SGD", "MomentumCorrectedSGD", "LARS"}
PLANS = st.builds(
    BatchPlan,
    per_replica_batch=st.integers(1, 300),
    num_replicas=st.integers(1, 100),
    accumulation_steps=st.integers(1, 8),
)
needs_multi_optimizer = pytest.mark.skipif(
    not hasattr(keras.optimizers, "MultiOptimizer"), reason="new in Keras 3.13"
)


@keras.saving.register_keras_serializable(package="test_scaling")
class Custom(keras.optimizers.SGD):
    """May be anything."""


def scale(given, plan=PLAN, rule="auto", **options):
    return tfdp.scale_learning_rate(
        given, plan, rule, **{"verbose": False, **options}
    )


def decay():
    return schedules.ExponentialDecay(0.5, 4, 0.5)


def rate_of(optimizer, update=0):
    rate = optimizer.get_config()["learning_rate"]
    if isinstance(rate, dict):
        return float(schedules.deserialize(rate)(update))
    return rate


@pytest.mark.parametrize("rule", FACTORS)
def test_a_number_is_multiplied(rule):
    rate = scale(np.float64(0.5), rule=rule)
    assert type(rate) is float
    assert rate == 0.5 * FACTORS[rule]


@pytest.mark.parametrize("rule", FACTORS)
def test_a_schedule_is_multiplied_at_every_update(rule):
    schedule = scale(decay(), rule=rule)
    assert type(schedule) is tfdp.ScaledSchedule
    for update in range(9):
        assert float(schedule(update)) == pytest.approx(
            FACTORS[rule] * float(decay()(update)), rel=1e-6
        )


@hypothesis.settings(max_examples=100, deadline=None, derandomize=True)
@hypothesis.given(
    PLANS, PLANS, st.integers(1, 10_000), st.sampled_from(list(FACTORS))
)
def test_two_scalings_are_one(first, second, base_batch, rule):
    twice = scale(
        scale(0.1, first, rule, base_batch=base_batch),
        second,
        rule,
        base_batch=first.global_batch,
    )
    once = scale(0.1, second, rule, base_batch=base_batch)
    assert twice == pytest.approx(once, rel=1e-12)
    growth = second.global_batch / base_batch
    power = {"linear": 1, "sqrt": 0.5, "none": 0}[rule]
    assert once == pytest.approx(0.1 * growth**power, rel=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("make_rate", [lambda: 0.5, decay], ids=["n", "decay"])
def test_auto_chooses_by_the_kind_of_optimizer(name, make_rate):
    given = OPTIMIZERS[name](learning_rate=make_rate())
    factor = LINEAR if name in OF_LINEAR else SQRT
    scaled = scale(given)
    assert type(scaled) is OPTIMIZERS[name]
    assert scaled is not given
    assert rate_of(scaled) == pytest.approx(factor * 0.5)
    assert rate_of(given) == pytest.approx(0.5)
    ours, theirs = scaled.get_config(), given.get_config()
    assert ours.pop("learning_rate") != theirs.pop("learning_rate")
    assert ours == theirs


def test_configuration_is_kept():
    given = keras.optimizers.AdamW(
        0.5, weight_decay=0.1, beta_2=0.95, clipnorm=1.0, name="mine"
    )
    scaled = scale(given, rule="linear").get_config()
    assert scaled == {**given.get_config(), "learning_rate": 8.0}


def test_exclusions_from_weight_decay_are_kept():
    given = keras.optimizers.SGD(0.01, weight_decay=0.1)
    given.exclude_from_weight_decay(var_names=["bias"])
    variables = [
        keras.Variable(np.ones(2, "float32"), name=name)
        for name in ("kernel", "bias")
    ]
    scaled = scale(given)
    scaled.build(variables)
    scaled.apply([np.zeros(2, "float32")] * 2)
    kernel, bias = (variable.numpy() for variable in variables)
    np.testing.assert_allclose(kernel, 1 - 0.01 * LINEAR * 0.1, rtol=1e-6)
    np.testing.assert_array_equal(bias, 1)


@pytest.mark.parametrize(
    ("given", "corrected"),
    [
        (lambda: keras.optimizers.SGD(decay(), momentum=0.9), True),
        (lambda: keras.optimizers.SGD(decay(), 0.9, nesterov=True), True),
        (lambda: keras.optimizers.SGD(0.5, momentum=0.9), False),
        (lambda: keras.optimizers.SGD(decay()), False),
        (lambda: Custom(decay(), momentum=0.9), False),
        (lambda: keras.optimizers.RMSprop(decay(), momentum=0.9), False),
    ],
)
@pytest.mark.parametrize("correction", [True, False])
def test_momentum_is_corrected_where_a_rate_changes(
    given, corrected, correction, capsys
):
    given = given()
    scaled = tfdp.scale_learning_rate(
        given, PLAN, "linear", momentum_correction=correction
    )
    corrected = corrected and correction
    expected = tfdp.MomentumCorrectedSGD if corrected else type(given)
    assert type(scaled) is expected
    says = capsys.readouterr().out.endswith(", momentum corrected\n")
    assert says == corrected
    if corrected:
        assert scaled.momentum == 0.9
        assert scaled.nesterov == given.nesterov


def test_an_optimizer_inside_of_a_distributed_one_is_scaled():
    plan = BatchPlan(
        per_replica_batch=256, num_replicas=2, accumulation_steps=2
    )
    with tfdp.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        given = tfdp.DistributedOptimizer(
            keras.optimizers.SGD(decay(), momentum=0.9),
            accumulation_steps=2,
            loss_scale=128.0,
            name="mine",
        )
        scaled = scale(given, plan)
    assert type(scaled) is tfdp.DistributedOptimizer
    ours, theirs = scaled.get_config(), given.get_config()
    inner = ours.pop("inner_optimizer"), theirs.pop("inner_optimizer")
    assert ours == theirs
    assert inner[0]["registered_name"] == "tfdp>MomentumCorrectedSGD"
    assert inner[1]["class_name"] == "SGD"
    assert rate_of(scaled.inner_optimizer, 4) == pytest.approx(4 * 0.25)


def test_an_optimizer_that_was_compiled_with_is_scaled():
    keras.config.set_dtype_policy("mixed_float16")
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.5), "mse")
    # Keras has wrapped it, for float16.
    given = model.optimizer
    scaled = scale(given)
    assert type(scaled) is keras.optimizers.LossScaleOptimizer
    model.compile(scaled, "mse")
    model.fit(np.ones((4, 1)), np.ones((4, 1)), verbose=0)
    assert float(scaled.learning_rate.numpy()) == 8.0
    assert float(given.learning_rate.numpy()) == 0.5


def test_a_scaled_optimizer_survives_a_save(tmp_path):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    optimizer = tfdp.DistributedOptimizer(
        keras.optimizers.SGD(
            tfdp.WarmupSchedule(decay(), 4, initial_rate=0.1), momentum=0.9
        )
    )
    plan = BatchPlan(
        per_replica_batch=512, num_replicas=1, accumulation_steps=1
    )
    model.compile(scale(optimizer, plan), "mse")
    model.fit(np.ones((4, 1)), np.ones((4, 1)), batch_size=2, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras").optimizer
    config = model.optimizer.get_config()
    assert loaded.get_config() == config
    assert json.loads(json.dumps(config)) == config
    assert loaded.iterations.numpy() == 2
    assert rate_of(loaded.inner_optimizer) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("given", "rule", "line"),
    [
        (
            lambda: keras.optimizers.SGD(0.5),
            "auto",
            "x 16 (linear rule for SGD, batch 256 -> 4,096)",
        ),
        (
            lambda: keras.optimizers.Adam(0.5),
            "none",
            "x 1 (no rule for Adam, batch 256 -> 4,096)",
        ),
        (lambda: 0.5, "sqrt", "x 4 (sqrt rule, batch 256 -> 4,096)"),
    ],
)
def test_the_chief_says_what_it_did(given, rule, line, capsys, monkeypatch):
    tfdp.scale_learning_rate(given(), PLAN, rule)
    assert capsys.readouterr().out == f"tfdp: learning rate {line}\n"
    tfdp.scale_learning_rate(given(), PLAN, rule, verbose=False)
    assert capsys.readouterr().out == ""
    cluster = {"worker": ["localhost:1", "localhost:2"]}
    for index, says in [(0, True), (1, False)]:
        task = {"type": "worker", "index": index}
        monkeypatch.setenv(
            "TF_CONFIG", json.dumps({"cluster": cluster, "task": task})
        )
        tfdp.scale_learning_rate(given(), PLAN, rule)
        assert bool(capsys.readouterr().out) == says


def train(strategy, optimizer, steps, y, **fit):
    """Weights after each update, one row per replica, from weight 1."""
    seen = []

    class Weights(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if (batch + 1) % steps == 0:
                weight = self.model.trainable_weights[0].value
                replicas = strategy.experimental_local_results(weight)
                seen.append([each.numpy().item() for each in replicas])

    x = fit.pop("x", np.ones((16, 1), "float32"))
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input((1,)),
                keras.layers.Dense(
                    1,
                    use_bias=False,
                    kernel_initializer=keras.initializers.Ones(),
                ),
            ]
        )
        model.compile(optimizer(), fit.pop("loss", "mse"))
    model.fit(
        x,
        y,
        batch_size=8 // steps,
        epochs=6,
        shuffle=False,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel(), Weights()],
    )
    assert int(model.optimizer.iterations.numpy()) == 12
    return np.array(seen)


def plan_of(strategy, steps, growth):
    replicas = strategy.num_replicas_in_sync
    return {
        "plan": BatchPlan(
            global_batch=8, num_replicas=replicas, accumulation_steps=steps
        ),
        "base_batch": 8 // growth,
    }


@pytest.mark.parametrize("steps", [1, 2])
def test_every_replica_takes_every_update_at_the_scaled_rate(strategy, steps):
    """The gradient of the mean absolute error is 1 throughout."""
    schedule = tfdp.WarmupSchedule(decay(), 4, initial_rate=0.1)

    def optimizer():
        given = tfdp.DistributedOptimizer(
            keras.optimizers.SGD(schedule), accumulation_steps=steps
        )
        return scale(given, **plan_of(strategy, steps, growth=4))

    y = np.full((16, 1), -1000, "float32")
    weights = train(strategy, optimizer, steps, y, loss="mae")
    assert weights.shape == (12, strategy.num_replicas_in_sync)
    assert np.all(weights == weights[:, :1])
    seen = -np.diff(weights[:, 0], prepend=1)
    expected = [4 * float(schedule(update)) for update in range(12)]
    np.testing.assert_allclose(seen, expected, rtol=1e-5)


def equation_9(gradient, rate, nesterov):
    """Goyal et al.: velocity = m velocity + g; weight -= rate velocity."""
    weight, velocity, weights = 1.0, 0.0, []
    for update in range(12):
        slope = gradient(weight, update)
        velocity = 0.9 * velocity + slope
        step = 0.9 * velocity + slope if nesterov else velocity
        weight -= rate(update) * step
        weights.append(weight)
    return weights


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("strategy", "nesterov"),
    [(1, True), (2, False), (4, True)],
    indirect=["strategy"],
)
def test_corrected_momentum_is_equation_9(strategy, nesterov):
    random = np.random.default_rng(0)
    x = random.normal(size=(16, 1)).astype("float32")
    y = 3 * x + random.normal(size=(16, 1)).astype("float32")
    schedule = tfdp.WarmupSchedule(
        schedules.PiecewiseConstantDecay([3], [0.05, 0.005]),
        warmup_updates=4,
        initial_rate=0.005,
    )

    def weights(correction):
        def optimizer():
            given = tfdp.DistributedOptimizer(
                keras.optimizers.SGD(schedule, 0.9, nesterov=nesterov)
            )
            batches = plan_of(strategy, 1, growth=2)
            return scale(given, momentum_correction=correction, **batches)

        return train(strategy, optimizer, 1, y, x=x)

    def gradient(weight, update):
        half = slice(8 * (update % 2), 8 * (update % 2) + 8)
        return np.mean(2 * (weight * x[half] - y[half]) * x[half])

    expected = equation_9(
        gradient, lambda update: 2 * float(schedule(update)), nesterov
    )
    np.testing.assert_allclose(
        weights(correction=True),
        np.repeat(
            np.array(expected)[:, None], strategy.num_replicas_in_sync, 1
        ),
        rtol=1e-5,
    )
    distorted = weights(correction=False)[:, 0]
    assert np.max(np.abs(distorted - expected)) > 0.01


@pytest.mark.sampled
@pytest.mark.parametrize("rule", FACTORS)
@pytest.mark.parametrize("kind", ["SGD", "AdamW", "Lion"])
def test_decay_of_an_update_is_the_scaled_rate_times_decay(
    two_replicas, kind, rule
):
    """Without a gradient nothing else moves the weights."""

    def optimizer():
        given = getattr(keras.optimizers, kind)(0.05, weight_decay=0.1)
        batches = plan_of(two_replicas, 1, growth=4)
        return scale(tfdp.DistributedOptimizer(given), rule=rule, **batches)

    zeros = np.zeros((16, 1), "float32")
    weights = train(two_replicas, optimizer, 1, zeros, x=zeros)
    factor = {"linear": 4, "sqrt": 2, "none": 1}[rule]
    expected = (1 - 0.05 * factor * 0.1) ** np.arange(1, 13)
    np.testing.assert_allclose(weights[:, 0], expected, rtol=1e-5)
    assert np.all(weights == weights[:, :1])


@pytest.mark.parametrize(
    "given", [0.1, decay(), Custom(0.1)], ids=["number", "schedule", "custom"]
)
def test_a_rule_must_be_named_for_what_is_unknown(given):
    with pytest.raises(ValueError, match="`rule` must be named") as error:
        scale(given)
    assert f"optimizer_or_schedule={type(given).__name__}." in str(error.value)
    assert 'rule="linear"' in str(error.value)
    assert scale(given, rule="sqrt") is not given


@pytest.mark.parametrize("rule", ["auto", *FACTORS])
def test_what_scales_by_itself_is_not_scaled(two_replicas, rule):
    with two_replicas.scope():
        given = tfdp.AdaScale(0.1, base_batch=256)
        distributed = tfdp.DistributedOptimizer(given)
    for each in (given, distributed):
        with pytest.raises(ValueError, match="scales its rate by itself"):
            scale(each, rule=rule)


@needs_multi_optimizer
def test_several_optimizers_are_scaled_one_by_one():
    given = keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(keras.optimizers.SGD(0.1), {})
    )
    for each in (given, tfdp.DistributedOptimizer(given)):
        with pytest.raises(ValueError, match="must be scaled one by one"):
            scale(each, rule="linear")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda each: each,
        tfdp.DistributedOptimizer,
        keras.optimizers.LossScaleOptimizer,
    ],
)
def test_an_optimizer_that_was_built_is_refused(wrap):
    given = wrap(keras.optimizers.SGD(0.1))
    given.build([keras.Variable(1.0)])
    with pytest.raises(ValueError, match="before it is built") as error:
        scale(given)
    assert "optimizer_or_schedule=SGD after 0 updates" in str(error.value)


def test_a_rate_that_is_a_function_is_refused():
    with pytest.raises(TypeError, match="to be scaled. Received: SGD with"):
        scale(keras.optimizers.SGD(lambda: 0.1))


@pytest.mark.parametrize("steps", [1, 2])
def test_an_optimizer_that_accumulates_otherwise_is_refused(
    two_replicas, steps
):
    with two_replicas.scope():
        given = tfdp.DistributedOptimizer(
            keras.optimizers.SGD(0.1), accumulation_steps=steps
        )
    message = (
        f"Received: accumulation_steps={steps} of DistributedOptimizer, "
        "accumulation_steps=4 of plan."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        scale(given)


def test_an_optimizer_that_accumulates_is_scaled_in_its_scope(two_replicas):
    with two_replicas.scope():
        given = tfdp.DistributedOptimizer(
            keras.optimizers.SGD(0.1), accumulation_steps=4
        )
    with pytest.raises(RuntimeError, match=r"with strategy\.scope\(\)"):
        scale(given)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"optimizer_or_schedule": "sgd"},
            TypeError,
            "must be a number, a `LearningRateSchedule` or an optimizer such "
            "as `keras.optimizers.SGD(0.1)`. Received: "
            "optimizer_or_schedule='sgd' (str).",
        ),
        (
            {"optimizer_or_schedule": keras.optimizers.SGD},
            TypeError,
            "SGD'> (type).",
        ),
        ({"optimizer_or_schedule": None}, TypeError, "None (NoneType)."),
        ({"optimizer_or_schedule": True}, TypeError, "True (bool)."),
        ({"optimizer_or_schedule": 0}, ValueError, "finite and positive"),
        (
            {"optimizer_or_schedule": math.nan},
            ValueError,
            "Received: optimizer_or_schedule=nan.",
        ),
        ({"plan": 4096}, TypeError, "plan=4096 (int). Pass, for example,"),
        ({"plan": None}, TypeError, "`plan` must be a `tfdp.BatchPlan`."),
        (
            {"rule": "cubic"},
            ValueError,
            "must be one of auto, linear, sqrt, none. Received: rule='cubic'.",
        ),
        ({"base_batch": 0}, ValueError, "Received: base_batch=0."),
        ({"base_batch": 2.5}, TypeError, "Received: base_batch=2.5 (float)."),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    sound = {"optimizer_or_schedule": 0.1, "plan": PLAN, "rule": "linear"}
    with pytest.raises(error, match=re.escape(message)):
        tfdp.scale_learning_rate(**{**sound, **arguments})


class Around(keras.optimizers.LossScaleOptimizer):
    """Says nothing of its argument in `get_config`."""

    def __init__(self, inner_optimizer, *args, extra=1.0, **kwargs):
        super().__init__(inner_optimizer, *args, **kwargs)
        self.extra = extra


class AroundStrictly(Around):
    def __init__(self, inner_optimizer, extra):
        super().__init__(inner_optimizer, extra=extra)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Around, "Around, whose copy has another `extra` than 2.0"),
        (AroundStrictly, "AroundStrictly, whose copy has TypeError"),
    ],
)
def test_an_optimizer_around_another_that_cannot_be_copied_is_refused(
    kind, message
):
    optimizer = kind(keras.optimizers.SGD(0.1), extra=2.0)
    plan = tfdp.BatchPlan(
        global_batch=512, per_replica_batch=512, num_replicas=1
    )
    with pytest.raises(TypeError, match=message):
        tfdp.scale_learning_rate(optimizer, plan)
