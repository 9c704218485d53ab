"""Equal to one device, with a replica in each of two worker processes."""

import pathlib

import numpy as np
import problem
import pytest

import tfdp

SCRIPT = pathlib.Path(__file__).parent / "workers" / "parity.py"
# 193 leaves worker 1 without samples in the last micro-batch.
GRID = [
    ("sgd", 1, 256),
    ("sgd", 4, 193),
    ("momentum", 2, 250),
    ("adam", 4, 250),
    ("adam", 1, 193),
    ("adamw", 2, 193),
]

pytestmark = pytest.mark.multi_worker


@pytest.fixture(scope="module")
def reports():
    arguments = [":".join(map(str, case)) for case in GRID]
    return tfdp.testing.run_workers(SCRIPT, 2, arguments, timeout=400)


@pytest.mark.parametrize("case", range(len(GRID)), ids=lambda i: str(GRID[i]))
def test_two_workers_equal_one_device(reports, case):
    name, steps, num_samples = GRID[case]
    model, history = problem.train_on_one_device(
        problem.OPTIMIZERS[name], num_samples
    )
    data = problem.dataset(num_samples, problem.GLOBAL_BATCH)
    for report in (worker[case] for worker in reports):
        weights = [np.array(w) for w in report["weights"]]
        assert (
            problem.deviation(weights, model.get_weights())
            <= problem.TOLERANCE[name]
        )
        assert report["updates"] == int(model.optimizer.iterations.numpy())
        for key in ("val_loss", "val_mae", *(["loss"] if steps == 1 else [])):
            np.testing.assert_allclose(
                report["history"][key], history[key], rtol=1e-4
            )
        np.testing.assert_allclose(
            report["evaluated"], model.evaluate(data, verbose=0), rtol=1e-4
        )
        np.testing.assert_allclose(
            report["predicted"], model.predict(data, verbose=0), atol=1e-5
        )
