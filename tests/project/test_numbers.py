"""Numbers that make no sense are refused where they are given."""

import inspect
import math

import keras
import numpy as np
import pytest

import tfdp

NO_NUMBERS = [math.nan, math.inf, -math.inf, -1, True, "3", 10**400]
DECAY = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
BATCH = {"base_batch": 256, "global_batch": 512}


def strategy(**options):
    return tfdp.MultiWorkerMirroredStrategy(**options)


def optimizer(**options):
    return tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1), **options)


def plan(**options):
    return tfdp.BatchPlan(**options)


def updates(**options):
    sizes = {"per_replica_batch": 4, "num_replicas": 2, "global_batch": 8}
    return tfdp.BatchPlan(**sizes).updates_per_epoch(**options)


def cluster(visible_gpus):
    tfdp.Cluster({"worker": ("a:1",)}, "worker", 0, {}, (visible_gpus,))


def scaled(**options):
    given = {"optimizer_or_schedule": 0.1, "base_batch": 8, **options}
    return tfdp.scale_learning_rate(plan=plan(**PLAN), verbose=False, **given)


def found(**options):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return tfdp.find_batch(model, (np.ones((2, 1)), np.ones((2, 1))), **options)


PLAN = {"per_replica_batch": 4, "num_replicas": 2, "accumulation_steps": 2}
CASES = [
    (plan, PLAN, [*PLAN]),
    (
        plan,
        {"global_batch": 8, "num_replicas": 2},
        ["max_per_replica_batch"],
    ),
    (updates, {}, ["num_samples"]),
    (cluster, {}, ["visible_gpus"]),
    (strategy, {}, ["heartbeat_timeout", "devices_per_replica"]),
    (
        optimizer,
        {},
        [
            "accumulation_steps",
            "loss_scale",
            "initial_scale",
            "dynamic_growth_steps",
        ],
    ),
    (
        tfdp.AdaScale,
        {"base_batch": 8},
        ["learning_rate", "momentum", "base_batch", "smoothing"],
    ),
    (
        tfdp.LARS,
        {},
        [
            "learning_rate",
            "momentum",
            "weight_decay",
            "trust_coefficient",
            "epsilon",
        ],
    ),
    (tfdp.MomentumCorrectedSGD, {}, ["learning_rate", "momentum"]),
    (tfdp.ScaledSchedule, {"learning_rate": DECAY}, ["factor"]),
    (tfdp.StretchedSchedule, {"schedule": DECAY}, ["updates_per_step"]),
    (
        tfdp.WarmupSchedule,
        {"learning_rate": 0.1, "warmup_updates": 5},
        ["learning_rate", "warmup_updates", "initial_rate"],
    ),
    (
        tfdp.WarmupSchedule,
        {"learning_rate": 0.1, "warmup_epochs": 5, "updates_per_epoch": 3},
        ["warmup_epochs", "updates_per_epoch"],
    ),
    (
        tfdp.linear_scaled_rate,
        {"base_rate": 0.1, **BATCH},
        ["base_rate", *BATCH],
    ),
    (tfdp.sqrt_scaled_rate, {"base_rate": 0.1, **BATCH}, ["base_rate", *BATCH]),
    (tfdp.shuffled_range, {"count": 4}, ["count", "seed"]),
    (scaled, {}, ["optimizer_or_schedule", "base_batch"]),
    (tfdp.testing.logical_cpus, {}, ["count"]),
    (
        tfdp.testing.run_workers,
        {"script": "x.py", "num_workers": 1},
        ["num_workers", "timeout"],
    ),
    (
        tfdp.launch,
        {"function": print, "workers": 1},
        ["workers", "cpus_per_worker", "timeout"],
    ),
    (found, {}, ["memory_limit", "most"]),
    (tfdp.callbacks.AdaScaleMonitor, {}, ["total_steps"]),
    (
        tfdp.callbacks.BackupAndRestore,
        {"backup_dir": "never"},
        ["save_freq", "every_seconds", "keep"],
    ),
    (tfdp.callbacks.LossScaleMonitor, {}, ["patience"]),
    (tfdp.callbacks.NoiseScaleMonitor, {}, ["smoothing", "verbose"]),
    (tfdp.callbacks.RunLogger, {"log_dir": "never"}, ["every"]),
    (
        tfdp.callbacks.ThroughputMonitor,
        {},
        ["window", "warmup_updates", "flops_per_sample", "verbose"],
    ),
]
# Those that a float makes no sense for, too.
ZERO_IS_ONE = {
    "epsilon",
    "initial_rate",
    "learning_rate",
    "momentum",
    "seed",
    "smoothing",
    "verbose",
    "visible_gpus",
    "warmup_epochs",
    "warmup_updates",
    "weight_decay",
}
EACH = [(make, given, name) for make, given, names in CASES for name in names]


@pytest.mark.parametrize("number", NO_NUMBERS, ids=lambda n: f"{n!s:.5}")
@pytest.mark.parametrize(
    ("make", "given", "name"),
    EACH,
    ids=[f"{make.__name__}-{name}" for make, _, name in EACH],
)
def test_what_is_no_number_is_refused_by_its_name(make, given, name, number):
    if name == "verbose" and number is True:
        pytest.skip("Keras takes it as 1")
    with pytest.raises((TypeError, ValueError)) as caught:
        make(**{**given, name: number})
    rule, received, _ = str(caught.value).partition("eceived")
    assert received
    assert f"`{name}`" in rule or f"{name}=" in str(caught.value)


@pytest.mark.parametrize(
    ("make", "given", "name"),
    [each for each in EACH if each[2] not in ZERO_IS_ONE],
    ids=[
        f"{make.__name__}-{name}"
        for make, _, name in EACH
        if name not in ZERO_IS_ONE
    ],
)
def test_nothing_is_refused_where_something_is_needed(make, given, name):
    with pytest.raises((TypeError, ValueError), match="eceived: .*[=(]0"):
        make(**{**given, name: 0})


@pytest.mark.parametrize("number", [10**30, 10**400])
def test_a_count_fits_into_64_bits(number):
    with pytest.raises(ValueError, match="must be at most 9223372036854775807"):
        plan(**{**PLAN, "num_replicas": number})


def test_every_number_of_what_users_name_is_looked_at():
    """A new argument that is a number by its type belongs into the list."""
    looked_at = {name for _, _, name in EACH} | {
        # Of Keras, which looks at them itself, or does not.
        "clipnorm",
        "clipvalue",
        "ema_momentum",
        "ema_overwrite_frequency",
        "global_clipnorm",
        "gradient_accumulation_steps",
        "loss_scale_factor",
        # That tests/cluster look at.
        "index",
        "task_index",
    }
    names = [n for n in dir(tfdp) if n not in ("callbacks", "testing")]
    public = [getattr(tfdp, name) for name in names if name[0] != "_"]
    for room in (tfdp.callbacks, tfdp.testing):
        public += [getattr(room, name) for name in room.__all__]
    missing = set()
    for thing in public:
        for parameter in inspect.signature(thing).parameters.values():
            words = str(parameter.annotation).replace("'", "").split(" | ")
            is_number = {"<class 'int'>", "int", "float"} & set(words)
            if is_number and parameter.name not in looked_at:
                missing.add(f"{thing.__name__}: {parameter.name}")
    assert not missing
