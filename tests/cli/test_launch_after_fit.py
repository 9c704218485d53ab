"""A worker that falls after its `fit` has the others train no second time."""

import pathlib
import re

import pytest
from click.testing import CliRunner

from tfdp.cli.launch import launch

SCRIPT = """
import os, sys, keras, numpy as np, tfdp
from tfdp.callbacks import BackupAndRestore, DataParallel

strategy = tfdp.auto_strategy()
attempt = os.environ["TFDP_RESTART_COUNT"]
with strategy.scope():
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(tfdp.DistributedOptimizer(keras.optimizers.Adam()), "mse")
x = np.arange(32, dtype="float32").reshape(16, 2)
history = model.fit(
    x, x[:, :1], batch_size=4, epochs=2, verbose=0, shuffle=False,
    callbacks=[DataParallel(), BackupAndRestore("backups"),
        keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: print("step in", attempt))],
).history
if attempt == "0":
    sys.exit(5 * strategy.worker_index)
if strategy.is_chief:
    print("weights", np.round(model.get_weights()[0].ravel(), 6).tolist())
    print("losses", history["loss"])
else:
    print("updates", int(model.optimizer.iterations.numpy()))
"""


@pytest.mark.long
@pytest.mark.multi_worker
@pytest.mark.parametrize("workers", ["2", "1:2"])
def test_what_was_trained_is_not_trained_again(tmp_path, monkeypatch, workers):
    monkeypatch.chdir(tmp_path)
    script = pathlib.Path("script.py")
    script.write_text(SCRIPT)
    result = CliRunner().invoke(
        launch, ["--workers", workers, "--max-restarts", "1", str(script)]
    )
    assert result.exit_code == 0, result.output
    assert result.output.count("[worker 0] step in 0") == 8
    assert "step in 1" not in result.output
    assert "[worker 1] updates 8" in result.output
    losses = re.search(r"losses \[(.*)\]", result.output)[1].split(", ")
    assert len(losses) == 2
    assert not pathlib.Path("backups").exists()
