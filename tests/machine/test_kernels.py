"""Kernels of oneDNN, where TensorFlow has them, for all workers."""

import os
import platform
import subprocess
import sys

import keras
import numpy as np
import pytest

import tfdp
from tfdp.callbacks import DataParallel
from tfdp.launching import worker_variables
from tfdp.machine import kernel_variables
from tfdp.settings import ONEDNN

pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="for x86"
)


def test_workers_have_them_unless_somebody_says_otherwise(monkeypatch):
    monkeypatch.delenv(ONEDNN)
    assert worker_variables()[ONEDNN] == "1"
    monkeypatch.setenv(ONEDNN, "0")
    assert worker_variables()[ONEDNN] == "0"


def test_other_processors_have_none(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert kernel_variables() == {}


PROGRAM = """
import os
from tfdp.upstream.tensorflow import tf_runtime
from tfdp.callbacks.first_word import tell_of_slow_kernels
if {is_off}:
    # As on a processor for which TensorFlow turns them off by itself.
    del os.environ["TF_ENABLE_ONEDNN_OPTS"]
tell_of_slow_kernels()
tell_of_slow_kernels()
"""


@pytest.mark.parametrize(("is_off", "times"), [(True, 1), (False, 0)])
def test_a_program_with_slow_kernels_is_told_once(is_off, times):
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(is_off=is_off)],
        env={**os.environ, ONEDNN: "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    words = f"Set {ONEDNN}=1 before the program starts"
    assert found.stdout.count(words) == times


def test_a_fit_says_so_first(two_replicas, monkeypatch, capsys):
    from tfdp.callbacks import first_word

    first_word.tell_of_slow_kernels.cache_clear()
    monkeypatch.delenv(ONEDNN)
    monkeypatch.setattr(first_word.tf_runtime, "uses_onednn", lambda: False)
    with two_replicas.scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile(tfdp.DistributedOptimizer(keras.optimizers.SGD()), "mse")
    x = np.zeros((4, 2), "float32")
    for _ in range(2):
        model.fit(x, x[:, :1], verbose=0, callbacks=[DataParallel()])
    assert capsys.readouterr().out.count("trains with slow kernels") == 1


@pytest.mark.long
def test_both_compute_the_same_up_to_rounding():
    code = (
        "import keras, numpy as np\n"
        "keras.utils.set_random_seed(0)\n"
        "x = keras.random.normal((64, 300), seed=1)\n"
        "print(np.asarray(keras.layers.Dense(70)(x)).tobytes().hex())\n"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, ONEDNN: value},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()[-1]
        for value in "01"
    ]
    without, with_them = (
        np.frombuffer(bytes.fromhex(each), "float32") for each in found
    )
    np.testing.assert_allclose(without, with_them, atol=1e-5)
