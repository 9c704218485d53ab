"""Keras callbacks for data-parallel training."""

from tfdp.callbacks.data_parallel import DataParallel as DataParallel

__all__ = ["DataParallel"]
