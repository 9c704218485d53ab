"""Which private name of xoscar moved, of those that `gloo` uses."""

import concurrent.futures
import sys

import numpy as np
import pytest
from contracts import contract

from tfdp.upstream import gloo


@contract(
    "xoscar_pygloo",
    serves="gradients between CPU workers travel by gloo",
)
@pytest.mark.skipif(not gloo.is_there(), reason="gloo is not installed")
def test_gloo_adds_up_in_place_and_meets_by_an_exchange():
    """One process is all; what it tells the others it is told again."""
    told = []

    def exchange(name, address):
        told.append((name, type(address)))
        return {name: address}

    alone = gloo.Gloo(0, 1, "127.0.0.1", exchange, seconds=5)
    values = np.arange(3, dtype="float32")
    alone.add_up(values.ctypes.data, 3)
    assert values.tolist() == [0, 1, 2]
    assert told in ([], [("0", bytes)])


def test_nothing_else_of_the_package_is_loaded():
    gloo.is_there()
    assert "xoscar" not in sys.modules


def test_without_it_the_package_is_named(monkeypatch):
    monkeypatch.setattr(gloo, "_MODULE", "xoscar_pygloo_that_moved")
    assert not gloo.is_there()
    with (
        pytest.raises(ImportError, match="pip install 'tfdp\\[gloo\\]'"),
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        pool.submit(
            gloo.Gloo, 0, 2, "127.0.0.1", lambda *_: {}, seconds=1
        ).result()


def test_without_the_package_nothing_is_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "xoscar", None)
    assert not gloo.is_there()
