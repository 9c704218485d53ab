"""Classes of tfdp that Keras can load by name before they are imported.

`keras.saving.register_keras_serializable` makes a class known when its module
is imported, which `import tfdp` leaves for later. Until then a stand-in takes
its place in Keras's list of custom objects.
"""

import importlib
import importlib.machinery
import sys
import types
from typing import Any

MODULES = {
    "AdaScale": "tfdp.large_batch.adascale",
    "Delayed": "tfdp.synchronization.delayed",
    "DelayedNesterov": "tfdp.synchronization.delayed_nesterov",
    "DiLoCo": "tfdp.synchronization.diloco",
    "DistributedLoss": "tfdp.losses",
    "DistributedMetric": "tfdp.metrics",
    "DistributedOptimizer": "tfdp.optimizer.optimizer",
    "LARS": "tfdp.large_batch.lars",
    "LocalSGD": "tfdp.synchronization.local_updates",
    "MomentumCorrectedSGD": "tfdp.large_batch.momentum",
    "Pipeline": "tfdp.groups.pipeline",
    "ReplicaSeedGenerator": "tfdp.step.randomness",
    "SampleSeedGenerator": "tfdp.step.sample_numbers",
    "ScaledSchedule": "tfdp.large_batch.schedules",
    "ShardedState": "tfdp.synchronization.sharded_state",
    "Stage": "tfdp.groups.stage",
    "StretchedSchedule": "tfdp.large_batch.schedules",
    "Synchronous": "tfdp.synchronization.synchronous",
    "WarmupSchedule": "tfdp.large_batch.warmup",
}


class StandIn:
    """Is there for a class until somebody makes an object of it.

    Args:
        name: Name of the class, one of `MODULES`.

    Example:

    >>> StandIn("LARS")(0.1).learning_rate.numpy()
    np.float32(0.1)
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Creates an object of the class."""
        return self._class(*args, **kwargs)

    def from_config(self, config: dict[str, Any]) -> Any:
        """Creates an object of the class from its configuration."""
        return self._class.from_config(config)

    @property
    def _class(self) -> Any:
        return getattr(importlib.import_module(MODULES[self._name]), self._name)


def register_beside_keras() -> None:
    """Registers stand-ins: now where Keras is imported, else once it is."""
    keras = sys.modules.get("keras")
    if keras is None:
        if not any(isinstance(f, _KerasFinder) for f in sys.meta_path):
            sys.meta_path.insert(0, _KerasFinder())
        return
    if not hasattr(keras, "saving"):
        # Another thread is at it; this waits.
        keras = importlib.import_module("keras")
    _register(keras)


def _register(keras: types.ModuleType) -> None:
    if hasattr(keras, "saving"):
        known = keras.saving.get_custom_objects()
        for name in MODULES:
            known.setdefault(f"tfdp>{name}", StandIn(name))


class _KerasFinder:
    # As `wrapt.register_post_import_hook` does, whose import takes longer than
    # all of tfdp's.
    def find_spec(
        self, name: str, path: Any = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "keras":
            return None
        # It stays: many look for Keras, and do not import it.
        found = (
            finder.find_spec(name, path, target)
            for finder in sys.meta_path
            if finder is not self
        )
        spec = next((each for each in found if each is not None), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: types.ModuleType) -> None:
                execute(module)
                _register(module)

            spec.loader.exec_module = execute_and_register  # type: ignore
        return spec
