"""Keras callbacks for data-parallel training."""

from tfdp.callbacks.adascale_monitor import AdaScaleMonitor as AdaScaleMonitor
from tfdp.callbacks.backup_and_restore import (
    BackupAndRestore as BackupAndRestore,
)
from tfdp.callbacks.chief_only import ChiefOnly as ChiefOnly
from tfdp.callbacks.data_parallel import DataParallel as DataParallel
from tfdp.callbacks.learning_rate_monitor import (
    LearningRateMonitor as LearningRateMonitor,
)
from tfdp.callbacks.loss_scale_monitor import (
    LossScaleMonitor as LossScaleMonitor,
)
from tfdp.callbacks.noise_scale_monitor import (
    NoiseScaleMonitor as NoiseScaleMonitor,
)
from tfdp.callbacks.run_logger import RunLogger as RunLogger
from tfdp.callbacks.throughput_monitor import (
    ThroughputMonitor as ThroughputMonitor,
)

__all__ = [
    "AdaScaleMonitor",
    "BackupAndRestore",
    "ChiefOnly",
    "DataParallel",
    "LearningRateMonitor",
    "LossScaleMonitor",
    "NoiseScaleMonitor",
    "RunLogger",
    "ThroughputMonitor",
]
