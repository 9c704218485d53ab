"""Four replicas on any machine, and what several test files need."""

import keras
import pytest

import tfdp


def pytest_configure(config):
    # Devices must exist before TensorFlow starts its runtime.
    tfdp.testing.logical_cpus(4)


@pytest.fixture(params=[1, 2, 4], ids=lambda n: f"{n}-replica")
def strategy(request):
    return tfdp.MirroredStrategy([f"CPU:{i}" for i in range(request.param)])


@pytest.fixture
def two_replicas():
    return tfdp.MirroredStrategy(["CPU:0", "CPU:1"])


@pytest.fixture(autouse=True)
def _nothing_leaks_between_tests():
    yield
    keras.config.set_dtype_policy("float32")
