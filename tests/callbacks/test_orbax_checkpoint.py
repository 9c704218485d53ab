"""Keras's OrbaxCheckpoint saves what all workers have, on the chief."""

import json
import os

import fake_orbax
import keras
import numpy as np
import problem
import pytest
from places import SHARED

import tfdp

SCRIPT = SHARED / "orbax_writers.py"
pytestmark = pytest.mark.skipif(
    not hasattr(keras.callbacks, "OrbaxCheckpoint"), reason="a newer Keras's"
)


def saves(folder):
    files = {path.stem: path for path in folder.glob("*.json")}
    return {step: json.loads(path.read_text()) for step, path in files.items()}


def leaves(tree):
    return keras.tree.flatten(tree)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("written")


@pytest.fixture(scope="module")
def reports(folder):
    return tfdp.testing.run_workers(SCRIPT, 2, [str(folder)], timeout=300)


@pytest.mark.multi_worker
def test_the_chief_alone_writes_an_epochs_checkpoint(reports, folder):
    written = saves(folder / "epochs")
    assert written.keys() == {"0", "1"}
    chief = reports[0]["process"]
    assert {each["process"] for each in written.values()} == {chief}
    last = written["1"]
    np.testing.assert_allclose(
        sorted(leaves(last["weights"])),
        sorted(reports[0]["weights"]),
        rtol=1e-6,
    )


@pytest.mark.multi_worker
def test_metrics_are_those_of_all_workers(reports, folder):
    for epoch, loss in enumerate(reports[0]["loss"]):
        saved = saves(folder / "epochs")[str(epoch)]["metrics"]["loss"]
        assert saved["count"] == 64
        assert saved["total"] / saved["count"] == pytest.approx(loss, rel=1e-6)


@pytest.mark.multi_worker
def test_it_saves_after_updates_not_between_them(reports, folder):
    # Two epochs of four micro-batches, two of which make an update.
    assert saves(folder / "batches").keys() == {"2", "4", "6", "8"}


def test_it_runs_under_a_strategy_and_counts_on(
    two_replicas, tmp_path, monkeypatch
):
    """Keras's own takes `iterations` for a number, which is refused."""
    for name in ("orbax", "orbax.checkpoint", "orbax.checkpoint.v1"):
        monkeypatch.setitem(fake_orbax.sys.modules, name, None)
    fake_orbax.install()
    with two_replicas.scope():
        model = problem.make_model()
        model.compile(tfdp.DistributedOptimizer(keras.optimizers.SGD()), "mse")
    for _ in range(2):
        model.fit(
            problem.dataset(64, 16),
            verbose=0,
            callbacks=[
                tfdp.callbacks.DataParallel(),
                keras.callbacks.OrbaxCheckpoint(
                    str(tmp_path), save_freq=4, max_to_keep=None
                ),
            ],
        )
    written = saves(tmp_path)
    assert written.keys() == {"4", "8"}
    assert written["8"]["process"] == os.getpid()
    expected = [float(w.numpy().sum()) for w in model.trainable_variables]
    np.testing.assert_allclose(
        sorted(leaves(written["8"]["weights"])), sorted(expected), rtol=1e-6
    )
