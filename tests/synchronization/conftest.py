"""Four replicas, and plain Keras to compare with."""

import pytest
from sharded_state import on_one_device

import tfdp


@pytest.fixture
def four_replicas():
    return tfdp.MirroredStrategy([f"CPU:{i}" for i in range(4)])


@pytest.fixture(scope="session")
def oracle():
    """Plain Keras, trained once for each kind."""
    trained = {}

    def of(kind):
        if kind not in trained:
            trained[kind] = on_one_device(kind)
        return trained[kind]

    return of
