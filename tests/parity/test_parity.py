"""Equal to one device: pairs of settings with common optimizers, and others.

At once a few that cover every value; with `-m long` all pairs, a grid, and
random ones.
"""

import itertools

import keras
import numpy as np
import pytest
import settings
from allpairspy import AllPairs
from grids import later
from hypothesis import HealthCheck, given
from hypothesis import settings as configured
from hypothesis import strategies as st

import tfdp


def pairs(optimizers):
    """Settings in which every two values of two kinds come together."""
    domains = {**settings.DOMAINS, "optimizer": optimizers}
    return [
        settings.Setting(*values)
        for values in AllPairs(
            list(domains.values()), filter_func=settings.possible
        )
    ]


COMMON = ("SGD", "Adam", "AdamW")
EVERY_PAIR = pairs(tuple(settings.OPTIMIZERS))
OTHERS = {
    setting.optimizer: setting
    for setting in EVERY_PAIR
    if setting.optimizer not in COMMON and setting.precision == "float32"
}
PAIRS = [*pairs(COMMON), *OTHERS.values()]
GRID = [
    settings.Setting(optimizer, "plain", "dense", "mean", *sizes, "float32")
    for optimizer in settings.OPTIMIZERS
    for sizes in itertools.product(
        *(settings.DOMAINS[key] for key in ("replicas", "steps", "num_samples"))
    )
]


def covering(chosen):
    """Few settings, in which every value of the others of a kind is."""
    left, few = {(k, v) for s in chosen for k, v in vars(s).items()}, []
    while left:
        few.append(max(chosen, key=lambda s: len(left & {*vars(s).items()})))
        left -= {*vars(few[-1]).items()}
    return few


AT_ONCE = covering(pairs(COMMON))


def train(setting):
    keras.config.set_dtype_policy(setting.precision)
    strategy = tfdp.MirroredStrategy(
        [f"CPU:{i}" for i in range(setting.replicas)]
    )
    with strategy.scope():
        model = settings.make_model(setting)
        loss, needs_wrap = settings.make_loss(setting)
        optimizer = tfdp.DistributedOptimizer(
            settings.make_optimizer(setting),
            setting.steps,
            initial_scale=2.0**10,  # Does not overflow at the first updates.
        )
        model.compile(
            optimizer, tfdp.DistributedLoss(loss) if needs_wrap else loss
        )
    history = model.fit(
        settings.dataset(setting, settings.GLOBAL_BATCH // setting.steps),
        validation_data=settings.dataset(setting, settings.GLOBAL_BATCH),
        epochs=settings.EPOCHS,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
        **settings.fit_arguments(setting),
    ).history
    return model, history


def check(setting):
    again = f"Again: pytest tests/parity -k given --setting {setting}"
    weights, expected, updates = settings.oracle_of(setting)
    model, history = train(setting)
    assert int(model.optimizer.iterations.numpy()) == updates, again
    tolerance = setting.tolerance
    deviation = settings.deviation(model.get_weights(), weights)
    if deviation > tolerance and setting.is_sensitive:
        tolerance = max(tolerance, 10 * settings.deviation_of_rounding(setting))
    assert deviation <= tolerance, again
    # Training logs are taken while weights move, so that only without
    # accumulation they are the oracle's.
    keys = ["val_loss"] + (["loss"] if setting.steps == 1 else [])
    for key in keys:
        np.testing.assert_allclose(
            history[key],
            expected[key],
            rtol=1e-4 if setting.precision == "float32" else 2e-2,
            err_msg=again,
        )


@pytest.mark.parametrize("setting", later(PAIRS, AT_ONCE), ids=str)
def test_training_equals_one_device_with_one_large_batch(setting):
    check(setting)


@pytest.mark.long
@pytest.mark.parametrize("setting", EVERY_PAIR, ids=str)
def test_every_pair_equals_one_device(setting):
    check(setting)


@pytest.mark.long
@pytest.mark.parametrize("setting", GRID, ids=str)
def test_every_size_equals_one_device(setting):
    check(setting)


@pytest.mark.long
@configured(
    max_examples=200,
    deadline=None,
    derandomize=False,
    suppress_health_check=list(HealthCheck),
)
@given(
    st.builds(
        settings.Setting,
        **{key: st.sampled_from(v) for key, v in settings.DOMAINS.items()}
        | {
            "replicas": st.integers(1, 4),
            "num_samples": st.integers(1, 300),
        },
    ).filter(lambda setting: setting.is_possible)
)
def test_any_setting_equals_one_device(setting):
    check(setting)


def test_given_setting_equals_one_device(request):
    setting = request.config.getoption("--setting")
    if setting is None:
        pytest.skip("no --setting")
    check(settings.read(setting))


def test_the_oracle_learns_something():
    _, history, _ = settings.oracle(settings.Setting("Adam", num_samples=240))
    assert history["loss"][-1] < 0.9 * history["loss"][0]


def test_pairs_cover_every_value():
    for name, domain in settings.DOMAINS.items():
        assert {getattr(setting, name) for setting in PAIRS} == set(domain)
        if name != "optimizer":
            at_once = {getattr(setting, name) for setting in AT_ONCE}
            assert at_once == set(domain)


def test_no_built_in_optimizer_is_forgotten():
    classes = {
        name
        for name, value in vars(keras.optimizers).items()
        if isinstance(value, type)
        and issubclass(value, keras.optimizers.Optimizer)
    }
    other = {"LossScaleOptimizer", "MultiOptimizer", "Optimizer"}
    assert classes - other <= set(settings.OPTIMIZERS)
