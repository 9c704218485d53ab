import itertools
import json
import math
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from keras.optimizers import schedules

from tfdp.batch import BatchPlan
from tfdp.large_batch.schedules import ScaledSchedule, StretchedSchedule
from tfdp.large_batch.warmup import WarmupSchedule

WRAPPED = {
    "number": lambda: 0.1,
    "cosine": lambda: schedules.CosineDecay(0.1, 20),
    "cosine-restarts": lambda: schedules.CosineDecayRestarts(0.1, 6),
    "exponential": lambda: schedules.ExponentialDecay(0.1, 10, 0.5),
    "inverse-time": lambda: schedules.InverseTimeDecay(0.1, 10, 0.5),
    "piecewise": lambda: schedules.PiecewiseConstantDecay(
        [5, 10], [0.1, 0.01, 0.001]
    ),
    "polynomial": lambda: schedules.PolynomialDecay(0.1, 20),
    "integer-arithmetic": lambda: OneOverStep(),
}

WRAPPERS = {
    "warmup": lambda rate: WarmupSchedule(
        rate, 4, initial_rate=0.02, shape="exponential"
    ),
    "scaled": lambda rate: ScaledSchedule(rate, 3),
    "stretched": lambda rate: StretchedSchedule(rate, 2.5),
}
RATES = st.floats(1e-4, 10)
PLANS = st.builds(
    BatchPlan,
    per_replica_batch=st.integers(1, 300),
    num_replicas=st.integers(1, 100),
    accumulation_steps=st.integers(1, 8),
)
properties = settings(max_examples=60, deadline=None, derandomize=True)


@keras.saving.register_keras_serializable(package="test_schedules")
class OneOverStep(schedules.LearningRateSchedule):
    """Computes in whatever type the step has, as the Keras guide does."""

    def __call__(self, step):
        return 1 / (step + 1)

    def get_config(self):
        return {}


@pytest.fixture(params=WRAPPED.values(), ids=WRAPPED.keys())
def wrapped(request):
    return request.param()


def rates(schedule, updates):
    return [float(schedule(update)) for update in updates]


def value_at(rate, step):
    return float(rate(step) if callable(rate) else rate)


@pytest.mark.parametrize("initial_rate", [0.0, 0.02, 0.5])
def test_warmup_rises_linearly_to_the_peak(wrapped, initial_rate):
    schedule = WarmupSchedule(
        wrapped, warmup_updates=8, initial_rate=initial_rate
    )
    peak = value_at(wrapped, 0)
    np.testing.assert_allclose(
        [float(schedule(update)) for update in range(9)],
        np.linspace(initial_rate, peak, 9),
        rtol=1e-6,
    )


def test_after_the_warmup_the_wrapped_schedule_starts_at_its_own_zero(wrapped):
    schedule = WarmupSchedule(wrapped, warmup_updates=8, initial_rate=0.02)
    # Not even rounding separates them: the warm-up ends at the joint.
    assert [float(schedule(8 + update)) for update in range(30)] == [
        pytest.approx(np.float32(value_at(wrapped, update)), abs=0, rel=1e-7)
        for update in range(30)
    ]


@properties
@given(RATES, RATES, st.integers(1, 60), st.sampled_from(["linear", "exp"]))
def test_a_warmup_meets_its_peak_without_a_jump(start, peak, length, shape):
    shape = {"exp": "exponential"}.get(shape, shape)
    schedule = WarmupSchedule(peak, length, initial_rate=start, shape=shape)
    actual = rates(schedule, range(length + 3))
    assert actual[0] == np.float32(start)
    # No rounding at the joint, on either side of which it is the peak.
    assert actual[length:] == [np.float32(peak)] * 3
    if shape == "linear":
        expected = np.linspace(start, peak, length + 1)
    else:
        expected = np.geomspace(start, peak, length + 1)
    np.testing.assert_allclose(actual[: length + 1], expected, rtol=2e-6)


@properties
@given(RATES, RATES, st.integers(1, 60), st.sampled_from(["linear", "exp"]))
def test_a_warmup_goes_one_way(start, peak, length, shape):
    # Closer steps are below the resolution of float32.
    assume(abs(peak / start - 1) > 1e-3)
    shape = {"exp": "exponential"}.get(shape, shape)
    schedule = WarmupSchedule(peak, length, initial_rate=start, shape=shape)
    steps = np.diff(rates(schedule, range(length + 1)))
    assert np.all(steps > 0 if peak > start else steps < 0)


def test_a_constant_warmup_jumps_to_the_schedule(wrapped):
    schedule = WarmupSchedule(wrapped, 3, initial_rate=0.5, shape="constant")
    assert rates(schedule, range(3)) == [0.5] * 3
    assert rates(schedule, range(3, 30)) == rates(
        WarmupSchedule(wrapped, 0), range(27)
    )


def test_a_shape_changes_nothing_after_the_warmup(wrapped):
    linear, exponential = (
        WarmupSchedule(wrapped, 8, initial_rate=0.02, shape=shape)
        for shape in ("linear", "exponential")
    )
    after = range(8, 30)
    assert rates(linear, after) == rates(exponential, after)


@properties
@given(PLANS, st.integers(1, 2_000_000), st.integers(1, 20))
def test_a_warmup_in_epochs_ends_with_an_epoch(plan, num_samples, epochs):
    updates_per_epoch = plan.updates_per_epoch(num_samples)
    assume(epochs * updates_per_epoch < 1_000_000)
    schedule = WarmupSchedule(
        1.0, warmup_epochs=epochs, updates_per_epoch=updates_per_epoch
    )
    end = epochs * updates_per_epoch
    assert schedule.warmup_updates == end
    before, at = rates(schedule, [end - 1, end])
    assert before < at == 1.0


@pytest.mark.parametrize(
    ("epochs", "updates"), [(0, 0), (0.5, 5), (2.04, 20), (2.06, 21), (5.0, 50)]
)
def test_a_warmup_of_some_epochs_is_whole_updates(epochs, updates):
    schedule = WarmupSchedule(0.1, warmup_epochs=epochs, updates_per_epoch=10)
    assert schedule.get_config() == {
        "learning_rate": 0.1,
        "warmup_updates": updates,
        "initial_rate": 0.0,
        "shape": "linear",
    }
    assert type(schedule.warmup_updates) is int


@pytest.mark.parametrize("factor", [0.25, 1, 16.0])
def test_a_scaled_schedule_is_the_schedule_times_a_number(wrapped, factor):
    if not callable(wrapped):
        wrapped = WarmupSchedule(wrapped, 0)
    np.testing.assert_allclose(
        rates(ScaledSchedule(wrapped, factor), range(30)),
        [factor * value_at(wrapped, update) for update in range(30)],
        rtol=1e-6,
    )


@pytest.mark.parametrize("updates_per_step", [0.3, 1, 2.5, 7])
def test_a_stretched_schedule_goes_by_its_own_steps(updates_per_step):
    decay = schedules.PolynomialDecay(0.5, 10, 0.1)
    stretched = StretchedSchedule(decay, updates_per_step)
    np.testing.assert_allclose(
        rates(stretched, range(40)),
        np.interp(np.arange(40) / updates_per_step, [0, 10], [0.5, 0.1]),
        rtol=1e-6,
    )


def test_a_step_of_one_update_changes_nothing(wrapped):
    if not callable(wrapped):
        wrapped = WarmupSchedule(wrapped, 0)
    np.testing.assert_allclose(
        rates(StretchedSchedule(wrapped, 1), range(30)),
        [value_at(wrapped, update) for update in range(30)],
        rtol=1e-6,
    )


@properties
@given(PLANS, st.integers(1, 2_000_000), st.integers(1, 100))
def test_a_schedule_in_epochs_ends_with_the_last(plan, num_samples, epochs):
    updates_per_epoch = plan.updates_per_epoch(num_samples)
    end = epochs * updates_per_epoch
    assume(end < 1_000_000)
    decay = schedules.PolynomialDecay(1.0, epochs, 0.0)
    before, *after = rates(
        StretchedSchedule(decay, updates_per_epoch), [end - 1, end, end + 1]
    )
    assert before > 0
    assert after == [0, 0]


@properties
@given(PLANS, st.integers(1, 5000), st.integers(1, 1000))
def test_a_schedule_in_samples_changes_on_its_update(plan, updates, base_batch):
    """Where the length of a step is no binary fraction, as 1 / 3."""
    samples = updates * plan.global_batch
    assume(samples < 2**31)
    for unit in (1, math.gcd(samples, base_batch)):
        # Keras's boundary is the last step of the rate before it.
        change = schedules.PiecewiseConstantDecay([samples // unit], [1.0, 0.5])
        stretched = StretchedSchedule(change, unit / plan.global_batch)
        assert rates(stretched, [updates - 1, updates, updates + 1]) == [
            1.0,
            1.0,
            0.5,
        ]


def test_a_stretched_schedule_counts_epochs_of_a_long_training_exactly():
    """Counts beyond 2 ** 24 have no float32, which schedules compute in."""
    change = schedules.PiecewiseConstantDecay([30], [0.1, 0.01])
    stretched = StretchedSchedule(change, updates_per_step=2**24 + 1)
    end = 30 * (2**24 + 1)
    assert rates(stretched, [end, end + 1]) == [
        np.float32(0.1),
        np.float32(0.01),
    ]


def test_warmup_equals_the_warmup_of_cosine_decay():
    ours = WarmupSchedule(schedules.CosineDecay(0.3, 20), 7, initial_rate=0.1)
    theirs = schedules.CosineDecay(0.1, 20, warmup_target=0.3, warmup_steps=7)
    np.testing.assert_allclose(
        [float(ours(update)) for update in range(40)],
        [float(theirs(update)) for update in range(40)],
        rtol=1e-6,
        atol=1e-9,
    )


def test_without_warmup_the_wrapped_schedule_is_unchanged(wrapped):
    schedule = WarmupSchedule(wrapped, warmup_updates=0, initial_rate=0.02)
    assert [float(schedule(update)) for update in range(30)] == [
        pytest.approx(np.float32(value_at(wrapped, update)), abs=0, rel=1e-7)
        for update in range(30)
    ]


STEPS = {
    "int": lambda step: step,
    "numpy": np.int64,
    "int32": lambda step: tf.constant(step, "int32"),
    "int64": lambda step: tf.constant(step, "int64"),
    "float32": lambda step: tf.constant(step, "float32"),
    "variable": lambda step: keras.Variable(step, dtype="int64"),
    "tf-variable": lambda step: tf.Variable(step, dtype="int64"),
}


@pytest.mark.parametrize("make", WRAPPERS.values(), ids=WRAPPERS.keys())
@pytest.mark.parametrize("make_step", STEPS.values(), ids=STEPS.keys())
@pytest.mark.parametrize("in_graph", [False, True], ids=["eager", "graph"])
def test_a_step_may_be_of_any_type(make, make_step, in_graph):
    schedule = make(WarmupSchedule(schedules.CosineDecay(0.1, 20), 2))
    for update in (0, 3, 8, 12):
        step = make_step(update)

        def call(step=step):
            return schedule(step)

        rate = (tf.function(call) if in_graph else call)()
        assert rate.dtype == tf.float32
        assert rate.shape == ()
        assert float(rate) == pytest.approx(
            float(schedule(update)), rel=1e-6, abs=1e-9
        )


@pytest.mark.parametrize("make", WRAPPERS.values(), ids=WRAPPERS.keys())
def test_one_trace_serves_every_update(make):
    schedule = make(schedules.CosineDecay(0.1, 20))
    step = tf.Variable(0, dtype="int64")
    traced = tf.function(lambda: schedule(step))
    for update in range(20):
        step.assign(update)
        assert float(traced()) == pytest.approx(
            float(schedule(update)), rel=1e-5
        )
    assert traced.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("make", WRAPPERS.values(), ids=WRAPPERS.keys())
def test_xla_compiles_the_schedule(make):
    schedule = make(schedules.CosineDecay(0.1, 20))
    compiled = tf.function(schedule, jit_compile=True)
    for update in (0, 3, 7):
        assert float(compiled(tf.constant(update))) == pytest.approx(
            float(schedule(update))
        )


def test_a_long_training_counts_exactly():
    """Counts beyond 2 ** 24 have no float32, which schedules compute in."""
    switch = 2**24
    schedule = WarmupSchedule(
        schedules.PiecewiseConstantDecay([switch], [0.1, 0.01]), 1
    )
    rates = [float(schedule(switch + 1)), float(schedule(switch + 2))]
    assert rates == [np.float32(0.1), np.float32(0.01)]


def round_trip(schedule):
    config = schedules.serialize(schedule)
    assert json.loads(json.dumps(config)) == config
    return schedules.deserialize(config)


def assert_same(one, other):
    assert type(one) is type(other)
    assert one.get_config() == other.get_config()
    updates = range(0, 30, 3)
    assert rates(one, updates) == rates(other, updates)


def test_a_schedule_survives_serialization(wrapped):
    schedule = WarmupSchedule(wrapped, 8, initial_rate=0.02)
    assert_same(schedule, round_trip(schedule))


NESTINGS = [
    *itertools.product(WRAPPERS, repeat=2),
    *itertools.permutations(WRAPPERS, 3),
]


@pytest.mark.parametrize("nesting", NESTINGS, ids="-".join)
def test_any_nesting_survives_serialization(nesting):
    schedule = schedules.CosineDecay(0.1, 20)
    for name in nesting:
        schedule = WRAPPERS[name](schedule)
    assert_same(schedule, round_trip(schedule))
    assert_same(
        schedule,
        keras.saving.deserialize_keras_object(
            keras.saving.serialize_keras_object(schedule)
        ),
    )


def test_a_warmup_saved_before_there_were_shapes_is_linear():
    config = {"learning_rate": 0.5, "warmup_updates": 8, "initial_rate": 0.25}
    schedule = keras.saving.deserialize_keras_object(
        {
            "module": "tfdp.large_batch.learning_rate",
            "class_name": "WarmupSchedule",
            "config": config,
            "registered_name": "tfdp>WarmupSchedule",
        }
    )
    assert_same(schedule, WarmupSchedule(0.5, 8, initial_rate=0.25))


def test_a_schedule_is_made_from_its_config_without_changing_it(wrapped):
    schedule = WarmupSchedule(wrapped, 8)
    config = schedule.get_config()
    assert_same(schedule, WarmupSchedule.from_config(config))
    assert config == schedule.get_config()


def test_a_schedule_survives_in_a_serialized_optimizer(wrapped):
    schedule = WarmupSchedule(wrapped, 8)
    config = keras.optimizers.serialize(keras.optimizers.SGD(schedule))
    optimizer = keras.optimizers.deserialize(config)
    assert_same(
        schedule,
        schedules.deserialize(optimizer.get_config()["learning_rate"]),
    )


def test_a_wrapped_schedule_may_be_a_custom_object():
    class Unregistered(OneOverStep):
        pass

    config = schedules.serialize(WarmupSchedule(Unregistered(), 8))
    custom_objects = {"Unregistered": Unregistered}
    schedule = schedules.deserialize(config, custom_objects=custom_objects)
    assert type(schedule.learning_rate) is Unregistered
    with pytest.raises(TypeError, match="Could not locate class 'Unregist"):
        schedules.deserialize(config)


def test_numpy_arguments_become_plain_ones():
    schedule = WarmupSchedule(
        np.float32(0.5), np.int64(8), initial_rate=np.float64(0.25)
    )
    assert schedule.get_config() == {
        "learning_rate": 0.5,
        "warmup_updates": 8,
        "initial_rate": 0.25,
        "shape": "linear",
    }
    assert_same(schedule, round_trip(schedule))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"learning_rate": 0},
            ValueError,
            "`learning_rate` must be finite and positive. "
            "Received: learning_rate=0.0.",
        ),
        ({"learning_rate": -0.1}, ValueError, "Received: learning_rate=-0.1."),
        ({"learning_rate": math.inf}, ValueError, "learning_rate=inf."),
        ({"learning_rate": math.nan}, ValueError, "learning_rate=nan."),
        ({"learning_rate": True}, TypeError, "learning_rate=True (bool)."),
        ({"learning_rate": "0.1"}, TypeError, "learning_rate='0.1' (str)."),
        (
            {"learning_rate": abs},
            TypeError,
            "`learning_rate` must be a number or a `LearningRateSchedule`. "
            "Received: learning_rate=<built-in function abs>",
        ),
        (
            {"initial_rate": -1.0},
            ValueError,
            "`initial_rate` must be finite and not negative. "
            "Received: initial_rate=-1.0.",
        ),
        ({"initial_rate": math.nan}, ValueError, "initial_rate=nan."),
        ({"initial_rate": False}, TypeError, "initial_rate=False (bool)."),
        (
            {"initial_rate": schedules.CosineDecay(0.1, 10)},
            TypeError,
            "`initial_rate` must be a number. Received: initial_rate=<",
        ),
        (
            {"warmup_updates": -1},
            ValueError,
            "`warmup_updates` must be at least 0. Received: warmup_updates=-1.",
        ),
        ({"warmup_updates": 2.5}, TypeError, "warmup_updates=2.5 (float)."),
        ({"shape": "cosine"}, ValueError, "Received: shape='cosine'."),
        (
            {"shape": "exponential"},
            ValueError,
            "`initial_rate` must be positive where the warm-up is exponential."
            ' Received: initial_rate=0.0, shape="exponential".',
        ),
        ({"shape": "constant"}, ValueError, "initial_rate=0.0, shape="),
        ({"warmup_updates": True}, TypeError, "warmup_updates=True (bool)."),
    ],
)
def test_warmup_refuses_wrong_arguments(arguments, error, message):
    sound = {"learning_rate": 0.1, "warmup_updates": 8}
    with pytest.raises(error, match=re.escape(message)):
        WarmupSchedule(**{**sound, **arguments})


def test_initial_rate_is_passed_by_name():
    with pytest.raises(TypeError, match="positional"):
        WarmupSchedule(0.1, 8, 0.01)


@pytest.mark.parametrize(
    "lengths",
    [
        {},
        {"warmup_epochs": 5},
        {"updates_per_epoch": 10},
        {"warmup_updates": 50, "warmup_epochs": 5},
        {"warmup_updates": 50, "updates_per_epoch": 10},
        {"warmup_updates": 50, "warmup_epochs": 5, "updates_per_epoch": 10},
    ],
    ids="-".join,
)
def test_the_length_of_a_warmup_is_given_once(lengths):
    with pytest.raises(ValueError, match="must be given either") as error:
        WarmupSchedule(0.1, **lengths)
    for name in ("warmup_updates", "warmup_epochs", "updates_per_epoch"):
        assert f"{name}={lengths.get(name)}" in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"warmup_epochs": -1}, ValueError, "finite and not negative"),
        ({"warmup_epochs": math.inf}, ValueError, "warmup_epochs=inf."),
        ({"warmup_epochs": "5"}, TypeError, "warmup_epochs='5' (str)."),
        ({"updates_per_epoch": 0}, ValueError, "updates_per_epoch=0."),
        ({"updates_per_epoch": 9.5}, TypeError, "updates_per_epoch=9.5 (fl"),
    ],
)
def test_a_warmup_refuses_wrong_epochs(arguments, error, message):
    sound = {"warmup_epochs": 5, "updates_per_epoch": 10}
    with pytest.raises(error, match=re.escape(message)):
        WarmupSchedule(0.1, **{**sound, **arguments})


@pytest.mark.parametrize(
    ("wrapper", "schedule", "number"),
    [
        (ScaledSchedule, "learning_rate", "factor"),
        (StretchedSchedule, "schedule", "updates_per_step"),
    ],
)
def test_a_wrapper_refuses_wrong_arguments(wrapper, schedule, number):
    decay = schedules.CosineDecay(0.1, 20)
    for value in (0.1, abs, None):
        with pytest.raises(TypeError, match="must be a `LearningRate") as error:
            wrapper(value, 2.0)
        assert f"Received: {schedule}={value!r} (" in str(error.value)
    for value in (0, -1, math.inf, math.nan):
        with pytest.raises(ValueError, match="finite and positive") as error:
            wrapper(decay, value)
        assert f"Received: {number}={float(value)}." in str(error.value)
    for value in ("2", None, True, decay):
        with pytest.raises(TypeError, match=f"`{number}` must be a number"):
            wrapper(decay, value)
