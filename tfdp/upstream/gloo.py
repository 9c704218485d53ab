"""gloo, the engine for all-reduces between CPUs, as `xoscar` brings it.

A doorway to an inner module of that package, which has a contract in
`tests/upstream/test_gloo.py`. Knows no TensorFlow, and loads nothing else of
the package: that would take a second.
"""

import datetime
import glob
import importlib.machinery
import importlib.util
import os
from collections.abc import Callable
from typing import Any

_MODULE = "xoscar_pygloo"
_LONGEST = datetime.timedelta(days=7)


class Gloo:
    """Adds up numbers in memory, in place, with those of other processes.

    gloo holds Python's lock while it waits for them.

    Args:
        rank: Place of this process among all.
        size: How many there are.
        host: Name or number of this machine, on which it listens.
        exchange: Is called once with a name and what the others need to reach
            this process, and returns that of all, by name.
        seconds: How long to wait for the others at the start; later it is for
            ever.

    Raises:
        ImportError: If gloo is not installed, or lies where nobody looks.
        RuntimeError: If it cannot listen, or does not reach another.
    """

    def __init__(
        self,
        rank: int,
        size: int,
        host: str,
        exchange: Callable[[str, bytes], dict[str, bytes]],
        *,
        seconds: float,
    ) -> None:
        gloo = _loaded()
        self._module = gloo
        tcp = gloo.transport.tcp
        self._store = _Store(exchange)
        self._context = gloo.rendezvous.Context(rank, size)
        self._context.setTimeout(datetime.timedelta(seconds=seconds))
        self._context.connectFullMesh(
            gloo.rendezvous.CustomStore(self._store),
            tcp.CreateDevice(tcp.attr(host)),
        )
        self._context.setTimeout(_LONGEST)

    def add_up(self, address: int, count: int) -> None:
        """Replaces numbers by their sums; all processes in the same order.

        Args:
            address: Where they are in memory, as float32.
            count: How many they are.

        Raises:
            RuntimeError: If another process has ended.
        """
        self._module.allreduce(
            self._context,
            address,
            address,
            count,
            self._module.GlooDataType_t.glooFloat32,
            self._module.ReduceOp.SUM,
            self._module.AllreduceAlgorithm.RING,
        )


def is_there() -> bool:
    """Whether gloo can be loaded."""
    return _file() is not None


class _Store:
    """What gloo calls to tell where it listens, and to hear of the others."""

    def __init__(
        self, exchange: Callable[[str, bytes], dict[str, bytes]]
    ) -> None:
        self._exchange = exchange
        self._all: dict[str, bytes] = {}

    def set_tcp(self, key: str, value: bytes) -> None:
        self._all = self._exchange(key, value)

    def wait(self, keys: list[str], *_: Any) -> None:
        """Has waited, in `set_tcp`."""

    def get_tcp(self, key: str) -> bytes:
        return self._all[key]


def _loaded() -> Any:
    file = _file()
    if file is None:
        raise ImportError(
            "gloo comes with the package `xoscar`, of at least 0.12. Received: "
            f"no {_MODULE} in it, or no such package. Install it: pip install "
            "'tfdp[gloo]'"
        )
    spec = importlib.util.spec_from_file_location(_MODULE, file)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


def _file() -> str | None:
    package = importlib.util.find_spec("xoscar")
    for folder in (package and package.submodule_search_locations) or ():
        for suffix in importlib.machinery.EXTENSION_SUFFIXES:
            pattern = os.path.join(
                glob.escape(folder), "collective", _MODULE + suffix
            )
            for file in glob.glob(pattern):
                return file
    return None
