"""Data-parallel training with the numbers of one big device.

Usage:

    import keras, tfdp

    strategy = tfdp.auto_strategy()
    with strategy.scope():
        model = build_model()
        model.compile(
            optimizer=tfdp.DistributedOptimizer(
                keras.optimizers.SGD(0.1), accumulation_steps=4
            ),
            loss="mse",
        )
    model.fit(dataset, callbacks=[tfdp.callbacks.DataParallel()])
"""

import threading
from typing import Any

import lazy_loader

from tfdp.upstream import registration

__version__ = "0.1.0"
# Names and where they live are in `__init__.pyi`. Each is imported when it is
# first used, so that what needs no TensorFlow does not wait for it.
_load, _, __all__ = lazy_loader.attach_stub(__name__, __file__)
# Threads that import modules which need each other, each from another side,
# wait for each other or meet half of a module.
_loading = threading.RLock()
registration.register_beside_keras()


def __getattr__(name: str) -> Any:
    with _loading:
        return _load(name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
