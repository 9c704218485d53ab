"""Keras callbacks for data-parallel training."""

from tfdp.callbacks.data_parallel import DataParallel as DataParallel
from tfdp.callbacks.throughput_monitor import (
    ThroughputMonitor as ThroughputMonitor,
)

__all__ = ["DataParallel", "ThroughputMonitor"]
