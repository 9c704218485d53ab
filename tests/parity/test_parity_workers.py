"""Equal to one device, with a replica in each of two worker processes."""

import numpy as np
import pytest
import settings
from allpairspy import AllPairs
from grids import later, of_this_run
from places import SHARED

import tfdp

SCRIPT = SHARED / "parity.py"
# 193 leaves worker 1 without samples in the last micro-batch.
CHOSEN = [
    settings.Setting(*texts, precision="float32")
    for texts in [
        ("SGD", "plain", "dense", "mean", 2, 1, 240),
        ("SGD", "clipvalue+schedule", "conv", "masked", 2, 3, 193),
        ("Adam", "global_clipnorm+callable", "embedding", "weighted", 2, 8, 50),
        ("AdamW", "ema_overwrite", "constrained", "sample_weight", 2, 2, 193),
        ("Nadam", "ema", "batchnorm", "class_weight", 2, 1, 240),
        ("Muon", "weight_decay", "dense", "mean", 2, 2, 50),
    ]
]
AT_ONCE = CHOSEN[:1] + CHOSEN[3:5]
PAIRS = [
    settings.Setting(*values)
    for values in AllPairs(
        [
            *list(settings.DOMAINS.values())[:4],
            (2,),
            *list(settings.DOMAINS.values())[5:7],
            ("float32",),
        ],
        filter_func=settings.possible,
    )
]

pytestmark = pytest.mark.multi_worker


def check(setting, reports):
    weights, expected, updates = settings.oracle_of(setting)
    for report in reports:
        assert report["updates"] == updates
        deviation = settings.deviation(
            [np.array(w) for w in report["weights"]], weights
        )
        tolerance = setting.tolerance
        if deviation > tolerance and setting.is_sensitive:
            rounding = settings.deviation_of_rounding(setting)
            tolerance = max(tolerance, 10 * rounding)
        assert deviation <= tolerance
        for key in ("val_loss", *(["loss"] if setting.steps == 1 else [])):
            np.testing.assert_allclose(
                report["history"][key], expected[key], rtol=1e-4
            )


@pytest.fixture(scope="module")
def reports(request):
    """What both workers report of each setting."""
    chosen = of_this_run(request, "trained")
    found = tfdp.testing.run_workers(
        SCRIPT, 2, list(map(str, chosen)), timeout=600
    )
    return dict(zip(chosen, zip(*found, strict=True), strict=True))


@pytest.fixture(params=later(CHOSEN, AT_ONCE), ids=str)
def trained(request, reports):
    """A setting, and what both workers report."""
    return request.param, reports[request.param]


def test_two_workers_equal_one_device(trained):
    check(*trained)


def test_workers_evaluate_and_predict_as_one_device(trained):
    setting, reports = trained
    for report in reports:
        model = settings.make_model(setting)
        model.compile("sgd", settings.make_loss(setting)[0])
        # With moving averages, these are the weights after the last epoch.
        model.set_weights([np.array(w) for w in report["weights"]])
        data = settings.dataset(setting, settings.GLOBAL_BATCH)
        np.testing.assert_allclose(
            report["evaluated"], model.evaluate(data, verbose=0), rtol=1e-5
        )
        np.testing.assert_allclose(
            report["predicted"], model.predict(data, verbose=0), atol=1e-5
        )


@pytest.mark.long
@pytest.mark.parametrize("setting", PAIRS, ids=str)
def test_every_pair_of_settings_equals_one_device(setting):
    reports = tfdp.testing.run_workers(SCRIPT, 2, [str(setting)], timeout=300)
    check(setting, [worker[0] for worker in reports])
