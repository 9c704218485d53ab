"""`tfdp estimate`, of scripts that never train."""

import pathlib
import textwrap
import time

import pytest
from click.testing import CliRunner

from tfdp.cli import main

SCRIPT = """
    import sys
    import keras
    import numpy as np
    import tfdp

    strategy = tfdp.auto_strategy()
    with strategy.scope():
        layers = [keras.layers.Dense(512, use_bias=False) for _ in range(2)]
        model = keras.Sequential([keras.Input((512,)), *layers])
        model.compile(
            tfdp.DistributedOptimizer(keras.optimizers.Adam(0.1)), "mse"
        )
    x = np.ones((96, 512), "float32")
    y = np.ones((96, 512), "float32")
    if len(sys.argv) < 2:
        model.fit(
            x, y, batch_size=32, callbacks=[tfdp.callbacks.DataParallel()]
        )
        print("has trained")
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "train.py"
    path.write_text(textwrap.dedent(SCRIPT))
    return str(path)


def estimate(*args):
    return CliRunner().invoke(main, ["estimate", *map(str, args)])


@pytest.mark.multi_worker
def test_options_are_estimated_beside(script):
    result = estimate("--workers", 2, script)
    assert result.exit_code == 0, result.output
    assert "has trained" not in result.output
    tables = result.output.split("\nwith ")
    assert [each.splitlines()[0] for each in tables] == [
        "as it is",
        "compression='bfloat16'",
        "synchronization=ShardedState()",
    ]
    assert "at 16 samples per replica" in tables[0]
    # Each of the two owns one of two equal layers.
    whole, _, half = (
        float(line.split()[0])
        for each in tables
        for line in each.splitlines()
        if line.endswith("optimizer state")
    )
    assert (whole, half) == (4.0, 2.0)
    assert "MiB less" in tables[2]


def test_a_script_that_does_not_fit_is_told(script):
    result = estimate("--per-replica-batch", 4, script, "nothing")
    assert result.exit_code == 1
    assert "A script that is estimated must train by `fit`" in result.output


@pytest.mark.long
def test_the_first_of_two_fits_is_estimated(script, tmp_path):
    twice = tmp_path / "twice.py"
    again = "model.fit(x, y, batch_size=8, callbacks=[callback])"
    twice.write_text(
        pathlib.Path(script).read_text()
        + "callback = tfdp.callbacks.DataParallel()\n"
        + again
    )
    result = estimate(twice)
    assert result.exit_code == 0, result.output
    assert "at 32 samples per replica" in result.output
    assert "at 8 samples" not in result.output
    assert "has trained" not in result.output
    result = estimate(twice, "nothing")
    assert "at 8 samples per replica" in result.output


@pytest.mark.long
def test_a_script_that_never_comes_to_its_fit_is_ended(tmp_path):
    path = tmp_path / "sleeps.py"
    path.write_text("import time\nprint('sleeps')\ntime.sleep(300)\n")
    begin = time.monotonic()
    result = estimate("--timeout", 15, path)
    assert 15 <= time.monotonic() - begin < 60
    assert result.exit_code == 1
    assert "15" in result.output
    assert "Or give more by --timeout." in result.output


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "soon"])
def test_a_timeout_that_is_no_time_is_told(script, seconds):
    result = estimate("--timeout", seconds, script)
    assert result.exit_code == 2
    assert "--timeout" in result.output


def test_a_script_that_is_no_file_is_told(tmp_path):
    result = estimate(tmp_path)
    assert result.exit_code == 2
    assert "it must be a Python file" in result.output
