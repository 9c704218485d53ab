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

import importlib
import pathlib
import sys
from importlib import metadata
from typing import TYPE_CHECKING, Any

# The command line, which starts processes, answers without TensorFlow.
_program = pathlib.PurePath(sys.argv[0])
if _program.name == "-m":
    _is_command = "tfdp.cli" in sys.orig_argv
else:
    _is_command = (_program.parent.name, _program.name) == ("bin", "tfdp")

if TYPE_CHECKING:
    from tfdp import testing as testing

if TYPE_CHECKING or not _is_command:
    # Its folder has another name in the checkout, where mypy looks.
    from tfdp import callbacks as callbacks  # type: ignore[attr-defined]
    from tfdp.adascale import AdaScale as AdaScale
    from tfdp.audit import audit as audit
    from tfdp.batch import BatchPlan as BatchPlan
    from tfdp.cluster import Cluster as Cluster
    from tfdp.lars import LARS as LARS
    from tfdp.learning_rate import linear_scaled_rate as linear_scaled_rate
    from tfdp.learning_rate import sqrt_scaled_rate as sqrt_scaled_rate
    from tfdp.losses import DistributedLoss as DistributedLoss
    from tfdp.momentum import MomentumCorrectedSGD as MomentumCorrectedSGD
    from tfdp.optimizer import DistributedOptimizer as DistributedOptimizer
    from tfdp.precision import set_precision as set_precision
    from tfdp.scaling import scale_learning_rate as scale_learning_rate
    from tfdp.schedules import ScaledSchedule as ScaledSchedule
    from tfdp.schedules import StretchedSchedule as StretchedSchedule
    from tfdp.strategy import MirroredStrategy as MirroredStrategy
    from tfdp.strategy import (
        MultiWorkerMirroredStrategy as MultiWorkerMirroredStrategy,
    )
    from tfdp.strategy import auto_strategy as auto_strategy
    from tfdp.warmup import WarmupSchedule as WarmupSchedule

__version__ = metadata.version("tfdp")


def __getattr__(name: str) -> Any:
    # A training does not need it, and it takes a tenth of the import.
    if name == "testing":
        return importlib.import_module("tfdp.testing")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
