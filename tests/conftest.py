"""Four replicas on any machine, and what several test files need."""

import gc
import os

# Workers have the kernels that a launcher gives them; one device the same.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import grids
import iterators
import keras
import pytest
import tensorflow as tf

import tfdp
from tfdp.cluster import membership


def pytest_addoption(parser):
    parser.addoption("--setting", help="a way to train, see settings.py")


def pytest_configure(config):
    # Devices must exist before TensorFlow starts its runtime.
    tfdp.testing.logical_cpus(4)
    # Tests run beside each other, and their sums are small.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    # Workers in one process wait for each other in the same pool of threads.
    tf.config.threading.set_inter_op_parallelism_threads(8)
    # What was imported lives as long as the process.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in grids.rest(items):
        item.add_marker("long")


@pytest.fixture(autouse=True, scope="session")
def _iterators_are_made_fast():
    patch = iterators.patched()
    yield
    patch.undo()


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
    membership._joined.clear()
