"""What two workers agree on besides plain updates."""

import keras
import numpy as np
import problem
import pytest
from places import SHARED

import tfdp

SCRIPT = SHARED / "edges.py"
BATCH = 32

pytestmark = pytest.mark.multi_worker


def root_of_mean(y_true, y_pred):
    error = keras.ops.mean(keras.ops.square(y_true - y_pred))
    return keras.ops.sqrt(error + 1e-3)


@pytest.fixture(scope="module")
def reports():
    return tfdp.testing.run_workers(SCRIPT, 2, timeout=400)


def train_on_one_device(loss, rate, x, y, **fit):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), loss)
    fit = {"batch_size": BATCH, "shuffle": False, "verbose": 0, **fit}
    return model, model.fit(x, y, **fit).history


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("whole batch", root_of_mean),
        ("sum", keras.losses.MeanSquaredError(reduction="sum")),
    ],
)
def test_distributed_losses_equal_one_device(reports, name, loss):
    model, history = train_on_one_device(
        loss, 0.002, *problem.arrays(97), epochs=2
    )
    for report in (worker["losses"][name] for worker in reports):
        weights = [np.array(w) for w in report["weights"]]
        assert problem.deviation(weights, model.get_weights()) <= 1e-6
        np.testing.assert_allclose(report["loss"], history["loss"], rtol=1e-4)


def test_an_overflow_on_one_worker_skips_that_update_on_all(reports):
    """Keras's own would leave the workers waiting for each other."""
    x, y = problem.arrays(4 * BATCH)
    sound = np.r_[: 2 * BATCH, 3 * BATCH : 4 * BATCH]
    model, _ = train_on_one_device("mse", 0.05, x[sound], y[sound])
    for report in (worker["overflow"] for worker in reports):
        assert (report["updates"], report["skipped"]) == (3, 1)
        assert report["scale"] == 2.0**14
        weights = [np.array(w) for w in report["weights"]]
        assert problem.deviation(weights, model.get_weights()) <= 1e-6


def test_workers_draw_different_masks(reports):
    first, second = (worker["masks"] for worker in reports)
    assert first != second


def test_statistics_are_the_mean_over_workers(reports):
    x, _ = problem.arrays(BATCH)
    for worker in reports:
        np.testing.assert_allclose(
            worker["statistics"], x.mean(axis=0), atol=1e-6
        )


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("data", ["known", "unknown", "shared out"])
@pytest.mark.parametrize("steps", [1, 2])
def test_several_steps_per_execution_equal_one_device(reports, data, steps):
    x, y = problem.arrays(10 * BATCH + 1)
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
    model.compile(
        keras.optimizers.SGD(0.05, momentum=0.9), "mse", metrics=["mae"]
    )
    history = model.fit(
        *(x, y),
        batch_size=steps * BATCH,
        epochs=2,
        shuffle=False,
        verbose=0,
        validation_data=(x, y),
    ).history
    predicted = model.predict(x, verbose=0)
    for report in (w["several steps"][f"{data}, {steps}"] for w in reports):
        assert report["updates"] == 2 * (11 if steps == 1 else 6)
        weights = [np.array(w) for w in report["weights"]]
        assert problem.deviation(weights, model.get_weights()) <= 1e-6
        np.testing.assert_allclose(report["predicted"], predicted, rtol=1e-4)
        # With accumulation, losses of an epoch are of other weights.
        names = history if steps == 1 else ("val_loss", "val_mae")
        for name in names:
            np.testing.assert_allclose(
                report["history"][name], history[name], rtol=1e-4
            )


@pytest.mark.parametrize(
    ("name", "updates"),
    [
        ("filtered", [[0, 1], [2, 3]]),
        # The first worker's batches, with the only one of the second's.
        ("of functions", [[0, 3, 1], [2]]),
    ],
)
def test_epochs_of_unknown_length_equal_one_device(reports, name, updates):
    x, y = problem.arrays(4 * BATCH)
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "mse")
    for batches in updates * 2:
        rows = np.concatenate(
            [np.arange(BATCH * i, BATCH * (i + 1)) for i in batches]
        )
        model.fit(x[rows], y[rows], batch_size=len(rows), verbose=0)
    for report in (worker["unknown lengths"][name] for worker in reports):
        assert report["updates"] == 4
        weights = [np.array(w) for w in report["weights"]]
        assert problem.deviation(weights, model.get_weights()) <= 1e-6
